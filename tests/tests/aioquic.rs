//! CONNECT-UDP and malformed requests by python's `aioquic`, and `aioquic` as the server behind adit.
#![cfg(feature = "e2e")]

use adit_tests::aioquic::CLIENT;
use adit_tests::certs::Certs;
use adit_tests::config::{
    cluster, connect_udp, hcm, http3, listener, prefix, quic_listener, resources, terminate, udp_tunnel, upgrades,
};
use adit_tests::{Proxy, free_port, origin, python};

const EXTENDED: &str = "http3_protocol_options: { allow_extended_connect: true }\n";

/// Datagrams come back as QUIC datagrams; what comes as capsules counts as well; unknown contexts are dropped.
const CONNECT_UDP: &str = r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        await c.ping()
        base = [(":scheme", "https"), (":authority", "localhost")]
        def tunnel(path="/.well-known/masque/udp/127.0.0.1/53/"):
            return c.request([(":method", "CONNECT"), (":protocol", "connect-udp"), (":path", path)] + base + [("capsule-protocol", "?1")])
        s, other = tunnel(), tunnel()
        for stream in (s, other):
            got = await c.until(stream, lambda s: s["headers"])
            assert got["headers"][b":status"] == b"200", got
            assert got["headers"][b"capsule-protocol"] == b"?1", got
        for number in range(200):
            c.datagram(s, b"\0datagram %d" % number)
            await c.until(s, lambda s: len(s["datagrams"]) == number + 1)
        assert c.of(s)["datagrams"] == [b"\0datagram %d" % number for number in range(200)]
        for size in (0, 1, 63, 64, 1000, 1100):
            c.datagram(other, b"\x02unknown context")
            c.datagram(other, b"\0" + b"x" * size)
            await c.until(other, lambda s: len(s["datagrams"]) and len(s["datagrams"][-1]) == 1 + size)
        assert len(c.of(other)["datagrams"]) == 6, c.of(other)
        # A capsule of an unknown type, a DATAGRAM capsule: the answer is a QUIC datagram.
        c.send(s, b"\x17\x03xyz\0\x04\0one")
        await c.until(s, lambda s: s["datagrams"][-1] == b"\0one")
        assert c.of(s)["data"] == b"" and c.of(other)["data"] == b""
        # The client's end is the tunnel's.
        c.send(s, b"", end=True)
        await c.until(s, lambda s: s["end"] or s["reset"] is not None)
        assert c.of(s)["end"], c.of(s)
        # A port that is none.
        for port in ("0", "65536", "dns"):
            bad = tunnel(f"/.well-known/masque/udp/127.0.0.1/{port}/")
            got = await c.until(bad, lambda s: s["headers"])
            assert got["headers"][b":status"] == b"400", (port, got)
        # Datagrams of streams that have ended, or were never asked for, harm nobody.
        c.datagram(s, b"\0late")
        c.datagram(4000, b"\0early")
        c.datagram(other, b"\0still here")
        await c.until(other, lambda s: s["datagrams"][-1] == b"\0still here")
    print("ok")
asyncio.run(main())
"#;

#[test]
fn connect_udp_is_terminated() {
    let (certs, port) = (Certs::new(), free_port());
    let routes = connect_udp("u", ", connect_config: {}");
    let far = quic_listener("q", port, &hcm("h", &routes, EXTENDED), &certs.server_context("h3"));
    let adit = Proxy::adit(&resources(&[far], &[cluster("u", origin::udp_echo(), "")]));
    assert_eq!(python(&format!("{CLIENT}{CONNECT_UDP}"), &[&port.to_string()]), "ok\n");
    adit.wait_stat("http.h.downstream_cx_upgrades_active", 0);
    adit.wait_stat("cluster.u.udp.sess_tx_datagrams", 208);
}

#[test]
fn malformed_requests_cost_their_stream_only() {
    let certs = Certs::new();
    let (hello, echo) = (origin::http("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n").0, origin::echo());
    let port = free_port();
    let routes = format!("{}{}", terminate("tcp"), prefix("hello"));
    let more = format!("{}{EXTENDED}", upgrades(&["websocket"]));
    let front = quic_listener("q", port, &hcm("h", &routes, &more), &certs.server_context("h3"));
    let adit = Proxy::adit(&resources(&[front], &[cluster("hello", hello, ""), cluster("tcp", echo, "")]));
    let script = r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        base = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
        neighbour = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        await c.until(neighbour, lambda s: s["headers"])
        sent = 0
        for name, headers in [
            ("no path", base[:3]),
            ("no method", base[1:]),
            ("no scheme", base[:1] + base[2:]),
            ("two methods", base[:1] + base),
            ("upper case", base + [("X-Upper", "1")]),
            ("connection", base + [("connection", "close")]),
            ("transfer-encoding", base + [("transfer-encoding", "chunked")]),
            ("upgrade", base + [("upgrade", "websocket")]),
            ("pseudo last", base[:3] + [("x", "y")] + base[3:]),
            ("unknown pseudo", base + [(":what", "x")]),
            ("a response's", base + [(":status", "200")]),
            ("te", base + [("te", "gzip")]),
            ("line feed", base + [("x", "a\nb")]),
            ("nul", base + [("x", "a\0b")]),
            ("space in name", base + [("x y", "a")]),
            ("empty path", base[:3] + [(":path", "")]),
            ("protocol without CONNECT", base + [(":protocol", "websocket")]),
            ("CONNECT with a path", [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/"), (":scheme", "https")]),
            ("CONNECT without authority", [(":method", "CONNECT")]),
            ("length", base + [("content-length", "5")]),
            ("two lengths", base + [("content-length", "0"), ("content-length", "5")]),
            ("no number", base + [("content-length", "x")]),
        ]:
            s = c.request(headers, end=True)
            got = await c.until(s, lambda s: s["headers"] or s["reset"] is not None)
            assert got["reset"] == 0x10e or got["headers"][b":status"] == b"400", (name, got)
            sent += 1
            c.send(neighbour, b"%04d" % sent)
            await c.until(neighbour, lambda s: len(s["data"]) == 4 * sent)
        s = c.request(base, end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"] == b"hello\n", got
        c.send(neighbour, b"last", end=True)
        got = await c.until(neighbour, lambda s: s["end"])
        assert got["data"].endswith(b"last")
    print("ok")
asyncio.run(main())
"#;
    assert_eq!(python(&format!("{CLIENT}{script}"), &[&port.to_string()]), "ok\n");
    adit.wait_stat("http.h.downstream_cx_http3_active", 0);
    adit.wait_stat("http.h.downstream_cx_http3_total", 1);
}

/// aioquic as a server: a GET, a WebSocket and a UDP tunnel reach it through an HTTP/3 cluster.
#[test]
fn aioquic_is_the_upstream() {
    let certs = Certs::new();
    let (front, udp, server) = (free_port(), free_port(), free_port());
    let yaml = resources(
        &[listener("l", front, &hcm("h", &prefix("hop"), &upgrades(&["websocket"]))), udp_tunnel(udp, "hop")],
        &[cluster("hop", server, &http3(&certs.path("ca.pem")))],
    );
    let adit = Proxy::adit(&yaml);
    let script = r#"
from aioquic.asyncio import serve
front, udp, port = (int(arg) for arg in sys.argv[1:4])
requests = []

class Server(Client):
    def seen(self, event, stream):
        if isinstance(event, HeadersReceived):
            stream["request"] = dict(event.headers)
            requests.append(stream["request"])
            if stream["request"][b":method"] == b"GET":
                self.h3.send_headers(event.stream_id, [(b":status", b"200"), (b"content-length", b"120000"), (b"x-server", b"aioquic")])
                self.h3.send_data(event.stream_id, b"hello " * 20000, True)
            else:
                self.h3.send_headers(event.stream_id, [(b":status", b"200"), (b"capsule-protocol", b"?1")])
        elif isinstance(event, DatagramReceived):
            self.h3.send_datagram(event.stream_id, event.data)
        elif stream["request"][b":method"] == b"CONNECT":
            self.h3.send_data(event.stream_id, event.data, event.stream_ended)
        self.transmit()

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.queue = asyncio.Queue()
    def datagram_received(self, data, addr):
        self.queue.put_nowait(data)

async def main():
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=False, max_datagram_frame_size=65536)
    config.load_cert_chain(sys.argv[4], sys.argv[5])
    await serve("127.0.0.1", port, configuration=config, create_protocol=Server)
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", front)
        writer.write(b"GET /page HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await reader.read(-1)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"x-server: aioquic\r\n" in answer, answer[:500]
        assert answer.count(b"hello ") == 20000
        reader, writer = await asyncio.open_connection("127.0.0.1", front)
        writer.write(b"GET /chat HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        for number in range(50):
            writer.write(b"%05d" % number * 1000)
            assert await reader.readexactly(5000) == b"%05d" % number * 1000
        writer.write_eof()
        assert await reader.read(-1) == b""
        transport, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, remote_addr=("127.0.0.1", udp))
        for number in range(200):
            transport.sendto(b"datagram %d" % number)
            assert await datagrams.queue.get() == b"datagram %d" % number
    assert requests[1][b":protocol"] == b"websocket" and requests[1][b":path"] == b"/chat", requests
    assert requests[2][b":protocol"] == b"connect-udp", requests
    assert requests[2][b":path"] == b"/.well-known/masque/udp/target.host.com/443/", requests
    assert requests[2][b"capsule-protocol"] == b"?1", requests
    print("ok")
asyncio.run(main())
"#;
    let args =
        [front.to_string(), udp.to_string(), server.to_string(), certs.path("server.pem"), certs.path("server.key")];
    assert_eq!(python(&format!("{CLIENT}{script}"), &args.each_ref().map(String::as_str)), "ok\n");
    adit.wait_stat("cluster.hop.upstream_cx_http3_total", 1);
    adit.wait_stat("cluster.hop.udp.sess_tunnel_success", 1);
}
