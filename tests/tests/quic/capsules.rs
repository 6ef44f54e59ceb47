//! Capsules and datagrams that are none, on every version; targets that are none.

use adit_tests::aioquic::CLIENT;
use adit_tests::config::{Hop, cluster, connect_udp, resources};
use adit_tests::{Proxy, free_port, origin, python};

/// Both kinds of route: one that terminates, and one that passes on.
fn run(route: &str, upstream: u16, more: &str, script: &str) -> Proxy {
    let front = free_port();
    let adit = Proxy::adit(&resources(&[Hop::Http3.listener("h", front, route, "")], &[cluster("u", upstream, more)]));
    assert_eq!(python(&format!("{CLIENT}{script}"), &[&front.to_string()]), "ok\n");
    adit
}

const TUNNEL: &str = r#"
BASE = [(":scheme", "https"), (":authority", "localhost")]
def tunnel(c, path="/.well-known/masque/udp/127.0.0.1/53/"):
    return c.request([(":method", "CONNECT"), (":protocol", "connect-udp"), (":path", path)] + BASE)
"#;

#[test]
fn capsules_over_http3() {
    let script = r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        await c.ping()
        neighbour = tunnel(c)
        await c.until(neighbour, lambda s: s["headers"])
        async def opened():
            s = tunnel(c)
            got = await c.until(s, lambda s: s["headers"])
            assert got["headers"][b":status"] == b"200", got
            return s
        # Cut at each byte, with an unknown capsule in between.
        whole = b"\0\x06\0first\x17\x03xyz\0\x05\0last"
        s = await opened()
        for byte in whole:
            c.send(s, bytes([byte]))
            await asyncio.sleep(0)
        await c.until(s, lambda s: len(s["datagrams"]) == 2)
        assert sorted(c.of(s)["datagrams"]) == [b"\0first", b"\0last"], c.of(s)
        # An unknown capsule of any length is skipped for as long as it lasts.
        s = await opened()
        c.send(s, b"\x17" + bytes([0xc0 | 0x3f] + [0xff] * 7) + b"z" * 500000)
        await asyncio.sleep(0.2)
        assert c.of(s)["reset"] is None
        # A datagram longer than any, one without a context, a stream that ends within one: the stream is reset.
        for bad, end in [(b"\0" + bytes([0xff] * 8), False), (b"\0\x80\x01\0\x10", False), (b"\0\0", False), (b"\0\x04\0on", True), (b"\0", True)]:
            s = await opened()
            c.send(s, bad, end=end)
            got = await c.until(s, lambda s: s["reset"] is not None or s["end"])
            assert got["reset"] is not None and not got["end"], (bad, got)
        # A request that ends with its head has no use (RFC 9298 section 3).
        s = c.request([(":method", "CONNECT"), (":protocol", "connect-udp"), (":path", "/.well-known/masque/udp/127.0.0.1/53/")] + BASE, end=True)
        got = await c.until(s, lambda s: s["headers"] or s["reset"] is not None)
        assert got["reset"] is not None or got["headers"][b":status"] == b"400", got
        c.datagram(neighbour, b"\0still here")
        await c.until(neighbour, lambda s: s["datagrams"] == [b"\0still here"])
    print("ok")
asyncio.run(main())
"#;
    let adit = run(&connect_udp("u", ", connect_config: {}"), origin::udp_echo(), "", &format!("{TUNNEL}{script}"));
    adit.wait_stat("http.h.downstream_rq_active", 0);
    adit.wait_stat("http.h.downstream_cx_http3_total", 1);
    adit.wait_stat("cluster.u.upstream_cx_active", 0);
}

/// A client that takes no QUIC datagrams gets capsules, and one that is larger than a packet as well.
#[test]
fn a_client_without_datagrams_gets_capsules() {
    let script = r#"
async def main():
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost")
    class Plain(Client):
        H3 = H3Connection
    async with connect("127.0.0.1", int(sys.argv[1]), configuration=config, create_protocol=Plain) as c:
        s = tunnel(c)
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"200", got
        whole = b""
        for size in (0, 1, 62, 1000, 1400):
            capsule = b"\0" + (bytes([size + 1]) if size < 63 else (0x4000 | size + 1).to_bytes(2, "big")) + b"\0" + b"x" * size
            c.send(s, capsule)
            whole += capsule
            await c.until(s, lambda s: len(s["data"]) == len(whole))
        assert c.of(s)["data"] == whole and not c.of(s)["datagrams"]
        c.send(s, b"", end=True)
        await c.until(s, lambda s: s["end"])
    print("ok")
asyncio.run(main())
"#;
    run(&connect_udp("u", ", connect_config: {}"), origin::udp_echo(), "", &format!("{TUNNEL}{script}"));
}

/// Terminated or passed on.
#[test]
fn bad_targets_over_http3() {
    let script = r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        for port in ("0", "65536", "dns", "-1", "+53", "99999999999999999999", "5 3".replace(" ", "%20"), "", "0x35", "%00"):
            s = tunnel(c, f"/.well-known/masque/udp/127.0.0.1/{port}/")
            got = await c.until(s, lambda s: s["headers"] or s["reset"] is not None)
            assert got["headers"] and 400 <= int(got["headers"][b":status"]) < 500, (port, got)
    print("ok")
asyncio.run(main())
"#;
    for config in [", connect_config: {}", ""] {
        run(&connect_udp("u", config), free_port(), "", &format!("{TUNNEL}{script}"));
    }
}

/// The same over HTTP/2, by python's `h2`: a tunnel in capsules, capsules that are none, targets that are none.
#[test]
fn capsules_and_targets_over_http2() {
    let script = r#"
import socket, sys, h2.connection, h2.config, h2.events
BASE = [(":scheme", "http"), (":authority", "localhost")]
class Conn:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.settimeout(40)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.streams = {}
        self.flush()
    def flush(self):
        self.sock.sendall(self.h2.data_to_send())
    def of(self, s):
        return self.streams.setdefault(s, {"status": None, "data": b"", "end": False, "reset": None})
    def until(self, s, ready):
        while not ready(self.of(s)):
            data = self.sock.recv(65536)
            assert data, "the connection ended"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.of(event.stream_id)["status"] = int(dict(event.headers)[b":status"])
                if isinstance(event, h2.events.DataReceived):
                    self.of(event.stream_id)["data"] += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded):
                    self.of(event.stream_id)["end"] = True
                if isinstance(event, h2.events.StreamReset):
                    self.of(event.stream_id)["reset"] = event.error_code
                assert not isinstance(event, h2.events.ConnectionTerminated), event
            self.flush()
        return self.of(s)
    def tunnel(self, path="/.well-known/masque/udp/127.0.0.1/53/"):
        s = self.h2.get_next_available_stream_id()
        self.h2.send_headers(s, [(":method", "CONNECT"), (":protocol", "connect-udp"), (":path", path)] + BASE)
        self.flush()
        return s
    def send(self, s, data, end=False):
        self.h2.send_data(s, data, end)
        self.flush()
c, terminates = Conn(int(sys.argv[1])), sys.argv[2] == "terminates"
for port in ("0", "65536", "dns", "-1", "+53", "99999999999999999999", "5%203", "", "0x35", "%00"):
    s = c.tunnel(f"/.well-known/masque/udp/127.0.0.1/{port}/")
    got = c.until(s, lambda s: s["status"] or s["reset"] is not None)
    assert got["status"] and 400 <= got["status"] < 500, (port, got)
if terminates:
    neighbour = c.tunnel()
    assert c.until(neighbour, lambda s: s["status"])["status"] == 200
    s = c.tunnel()
    c.until(s, lambda s: s["status"])
    for byte in b"\0\x06\0first\x17\x03xyz\0\x05\0last":
        c.send(s, bytes([byte]))
    c.until(s, lambda s: len(s["data"]) == 15)
    assert c.of(s)["data"] in (b"\0\x06\0first\0\x05\0last", b"\0\x05\0last\0\x06\0first"), c.of(s)
    for bad, end in [(b"\0" + bytes([0xff] * 8), False), (b"\0\x80\x01\0\x10", False), (b"\0\0", False), (b"\0\x04\0on", True)]:
        s = c.tunnel()
        c.until(s, lambda s: s["status"])
        c.send(s, bad, end)
        got = c.until(s, lambda s: s["reset"] is not None or s["end"])
        assert got["reset"] is not None and not got["end"], (bad, got)
    c.send(neighbour, b"\0\x06\0still", True)
    got = c.until(neighbour, lambda s: s["end"] or s["reset"] is not None)
print("ok")
"#;
    for (config, name) in [(", connect_config: {}", "terminates"), ("", "forwards")] {
        let front = free_port();
        let route = connect_udp("u", config);
        let _adit = Proxy::adit(&resources(
            &[Hop::Http2.listener("h", front, &route, "")],
            &[cluster("u", origin::udp_echo(), "")],
        ));
        assert_eq!(python(script, &[&front.to_string(), name]), "ok\n");
    }
}
