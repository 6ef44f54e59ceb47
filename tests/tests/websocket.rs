//! WebSockets by python's `websockets`, HTTP/1.1 to HTTP/1.1.
#![cfg(feature = "e2e")]

use adit_tests::config::{cluster, hcm, listener, prefix, resources, upgrades};
use adit_tests::{Proxy, free_port, python};

/// Messages of every size, fragments, pings, compression, closes by both sides, many at once.
#[test]
fn messages_fragments_pings_and_closes() {
    let (port, server) = (free_port(), free_port());
    let yaml = resources(
        &[listener("l", port, &hcm("h", &prefix("c"), &upgrades(&["websocket"])))],
        &[cluster("c", server, "")],
    );
    let adit = Proxy::adit(&yaml);
    let script = r#"
import asyncio, sys, websockets
front, server = int(sys.argv[1]), int(sys.argv[2])

async def echo(ws):
    async for message in ws:
        if message == "close me":
            await ws.close(4001, "as you wish")
            return
        await ws.send(message)

async def client(number):
    compression = "deflate" if number % 2 else None
    async with websockets.connect(f"ws://127.0.0.1:{front}/{number}", max_size=None, compression=compression, open_timeout=60, ping_interval=None) as ws:
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
            await ws.send("x" * size)
            assert await ws.recv() == "x" * size
        await ws.send(["frag", "ment", "ed"])
        assert await ws.recv() == "fragmented"
        await (await ws.ping())
        await ws.send("close me")
        try:
            await ws.recv()
            raise SystemExit("no close")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as you wish"), closed

async def main():
    async with websockets.serve(echo, "127.0.0.1", server, max_size=None, open_timeout=60, ping_interval=None):
        await asyncio.gather(*(client(number) for number in range(50)))
    print("ok")
asyncio.run(main())
"#;
    assert_eq!(python(script, &[&port.to_string(), &server.to_string()]), "ok\n");
    adit.wait_stat("http.h.downstream_cx_upgrades_active", 0);
    adit.wait_stat("http.h.downstream_cx_upgrades_total", 50);
    adit.wait_stat("http.h.downstream_rq_1xx", 50);
}

/// An origin that refuses a WebSocket is heard with its status and body, whatever the status.
#[test]
fn refusals_keep_their_bodies() {
    for (status, reason) in [(403, "Forbidden"), (426, "Upgrade Required"), (302, "Found"), (200, "OK")] {
        let port = free_port();
        let answer: &'static str =
            format!("HTTP/1.1 {status} {reason}\r\ncontent-length: 4\r\nx-why: because\r\n\r\nno!\n").leak();
        let (upstream, _) = adit_tests::origin::http(answer);
        let yaml = resources(
            &[listener("l", port, &hcm("h", &prefix("c"), &upgrades(&["websocket"])))],
            &[cluster("c", upstream, "")],
        );
        let _adit = Proxy::adit(&yaml);
        let mut client = adit_tests::peer::Peer::connect(port);
        client.send(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\nearly payload",
        );
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains("x-why: because\r\n") && head.contains("connection: close\r\n"), "{head}");
        client.expect("no!\n");
        client.rest();
    }
}
