//! What a hostile or unlucky client may do to a connection: migrate, burn connection ids, acknowledge what was never sent.

use adit_tests::aioquic::CLIENT;
use adit_tests::config::{Hop, cluster, resources, terminate};
use adit_tests::{Proxy, free_port, origin, python};

fn run(script: &str, workers: &str) -> Proxy {
    let front = free_port();
    let yaml = resources(&[Hop::Http3.listener("h", front, &terminate("c"), "")], &[cluster("c", origin::echo(), "")]);
    let adit = Proxy::adit_with(&yaml, &["--concurrency", workers]);
    assert_eq!(python(&format!("{CLIENT}{script}"), &[&front.to_string()]), "ok\n");
    adit.wait_stat("cluster.c.upstream_cx_active", 0);
    adit
}

const TUNNEL: &str = r#"
async def tunnel(c):
    s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
    await c.until(s, lambda s: s["headers"])
    return s
async def echoes(c, s, text):
    had = len(c.of(s)["data"])
    c.send(s, text)
    got = await c.until(s, lambda s: len(s["data"]) == had + len(text))
    assert got["data"].endswith(text)
"#;

/// A client whose address changes again and again (NAT rebinding) lands on any worker's socket; its tunnel lives on.
#[test]
fn a_live_tunnel_survives_new_addresses() {
    let script = r#"
import socket
async def main():
    async with client(int(sys.argv[1])) as c:
        s = await tunnel(c)
        await echoes(c, s, b"before")
        first = c._transport
        for move in range(12):
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0, 0, 0))
            old = c._transport
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: c, sock=sock)
            assert c._transport is not old
            if move % 3 == 2:
                c._quic.change_connection_id()
            await echoes(c, s, b"moved %d" % move)
            await echoes(c, s, b"x" * 100000)
        c.send(s, b"", end=True)
        await c.until(s, lambda s: s["end"])
    print("ok")
asyncio.run(main())
"#;
    let adit = run(&format!("{TUNNEL}{script}"), "4");
    adit.wait_stat("http.h.downstream_cx_http3_total", 1);
}

/// Connection ids are retired as fast as they are issued.
#[test]
fn connection_ids_are_burnt() {
    let script = r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        s = await tunnel(c)
        for turn in range(600):
            c._quic.change_connection_id()
            if turn % 10 == 0:
                await echoes(c, s, b"turn %d" % turn)
            else:
                await c.ping()
        c.send(s, b"", end=True)
        await c.until(s, lambda s: s["end"])
    print("ok")
asyncio.run(main())
"#;
    run(&format!("{TUNNEL}{script}"), "2");
}

/// An ACK of packets that were never sent ends that connection with PROTOCOL_VIOLATION (RFC 9000 section 13.1), a datagram
/// larger than announced likewise; others go on.
#[test]
fn what_no_peer_sends_ends_its_connection_only() {
    let script = r#"
from aioquic.quic.connection import QuicConnection
from aioquic.tls import Epoch
async def main():
    async with client(int(sys.argv[1])) as good:
        g = await tunnel(good)
        async with client(int(sys.argv[1])) as bad:
            s = await tunnel(bad)
            space = bad._quic._spaces[Epoch.ONE_RTT]
            space.ack_queue.add(100000)
            space.ack_at = 0
            bad.send(s, b"x")
            async with asyncio.timeout(40):
                while not bad.closed:
                    bad.changed.clear()
                    await bad.changed.wait()
            assert bad.closed.error_code == 0xa, bad.closed
        await echoes(good, g, b"still here")
        # Garbage in front of a live connection: what does not decrypt is dropped.
        import os
        for first in (0x40, 0xc0, 0xe0, 0xf0, 0x00):
            for _ in range(200):
                good._transport.sendto(bytes([first]) + os.urandom(1200), good._quic._network_paths[0].addr)
        await echoes(good, g, b"and here")
        good.send(g, b"", end=True)
        await good.until(g, lambda s: s["end"])
    print("ok")
asyncio.run(main())
"#;
    run(&format!("{TUNNEL}{script}"), "1");
}

/// A client that resumes sends its CONNECT as early data: nothing of it is taken before the handshake is done, and it is not
/// served twice. Where somebody in front took early data (RFC 8470), tunnels are answered 425.
#[test]
fn early_data_opens_no_tunnel() {
    let script = r#"
def resuming(ticket=None, got=None):
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost", max_datagram_frame_size=65536)
    config.session_ticket = ticket
    return connect("127.0.0.1", int(sys.argv[1]), configuration=config, create_protocol=Client, session_ticket_handler=got, wait_connected=ticket is None)
async def main():
    tickets = []
    async with resuming(got=tickets.append) as c:
        s = await tunnel(c)
        await echoes(c, s, b"first")
        c.send(s, b"", end=True)
        await c.until(s, lambda s: s["end"])
        for early, status in (("1", b"425"), ("0", b"200")):
            s = c.request([(":method", "CONNECT"), (":authority", "target.example:443"), ("early-data", early)])
            got = await c.until(s, lambda s: s["headers"])
            assert got["headers"][b":status"] == status, got
            if status == b"200":
                c.send(s, b"", end=True)
            await c.until(s, lambda s: s["end"])
    assert tickets and not tickets[0].max_early_data_size, tickets
    ticket = tickets[0]
    ticket.max_early_data_size = 0xffffffff
    async with resuming(ticket) as c:
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        await c.until(s, lambda s: s["headers"])
        assert c._quic.tls.session_resumed and not c._quic.tls.early_data_accepted
        await echoes(c, s, b"second")
        c.send(s, b"", end=True)
        await c.until(s, lambda s: s["end"])
    print("ok")
asyncio.run(main())
"#;
    let adit = run(&format!("{TUNNEL}{script}"), "1");
    // The two that stood, and the one that was not early.
    adit.wait_stat("cluster.c.upstream_cx_total", 3);
    adit.wait_stat("http.h.downstream_rq_4xx", 1);
}
