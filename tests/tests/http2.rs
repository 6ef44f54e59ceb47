//! HTTP/2 through the binary, with counterparts that others wrote.
#![cfg(feature = "e2e")]

use std::process::Command;

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, resources, terminate, upgrades};
use adit_tests::{Proxy, curl, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

const ALLOW: &str = "http2_protocol_options: { allow_connect: true }\n";

#[test]
fn curl_and_nghttp_with_prior_knowledge() {
    let (hello, _) = origin::http(HELLO);
    let port = free_port();
    let adit = Proxy::adit(&resources(&[listener("l", port, &hcm("h", &prefix("c"), ""))], &[cluster("c", hello, "")]));
    let url = format!("http://127.0.0.1:{port}/");
    let out = curl(&["--http2-prior-knowledge", "-w", "%{http_version}", &url]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "hello\n2");
    let out = Command::new("nghttp").args(["-n", "--stat", "-m", "20", &url]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    adit.wait_stat("http.h.downstream_rq_http2_total", 21);
    let out = Command::new("h2load").args(["-n", "2000", "-c", "4", "-m", "50", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("2000 succeeded, 0 failed"), "{text}");
}

/// A WebSocket by python's `websockets`, over HTTP/1.1 and two hops of HTTP/2 between proxies.
#[test]
fn websockets_cross_http2_hops() {
    let server = free_port();
    let script = r#"
import asyncio, sys, websockets
async def main(front, server):
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
    async with websockets.serve(echo, "127.0.0.1", server, max_size=None):
        async with websockets.connect(f"ws://127.0.0.1:{front}/chat", max_size=None) as ws:
            for message in ["hello", "x" * 300000, b"\x00\xff" * 5000, ""]:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.close(4000, "done")
            print(ws.close_code, ws.close_reason)
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"#;
    for (near, far) in [("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")] {
        let (a, b) = (free_port(), free_port());
        let start = |who: &str, yaml: &str| if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) };
        let more = format!("{}{ALLOW}", upgrades(&["websocket"]));
        let near_yaml = resources(&[listener("a", a, &hcm("a", &prefix("c"), &more))], &[cluster("c", b, HTTP2)]);
        let far_yaml = resources(&[listener("b", b, &hcm("b", &prefix("c"), &more))], &[cluster("c", server, "")]);
        let _far = start(far, &far_yaml);
        let _near = start(near, &near_yaml);
        assert_eq!(python(script, &[&a.to_string(), &server.to_string()]), "4000 done\n", "{near} -> {far}");
    }
}

/// Python's `h2` sends frames: extended CONNECT with and without leave, CONNECT with half-close, resets.
#[test]
fn raw_frames_by_python_h2() {
    let (echo, hello) = (origin::echo(), origin::http(HELLO).0);
    let (with, without) = (free_port(), free_port());
    let routes = format!("{}{}", terminate("tcp"), prefix("hello"));
    let allowed = format!("{}{ALLOW}", upgrades(&["websocket"]));
    let _adit = Proxy::adit(&resources(
        &[
            listener("with", with, &hcm("with", &routes, &allowed)),
            listener("without", without, &hcm("without", &routes, "")),
        ],
        &[cluster("tcp", echo, ""), cluster("hello", hello, "")],
    ));
    let script = r#"
import socket, sys
import h2.connection, h2.config, h2.events, h2.settings

class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=40)
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False))
        self.conn.initiate_connection()
        self.seen = []
        self.flush()
    def flush(self):
        self.sock.sendall(self.conn.data_to_send())
    def until(self, kind, stream=None):
        while True:
            for i, event in enumerate(self.seen):
                if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                    return self.seen.pop(i)
            data = self.sock.recv(65536)
            assert data, f"closed while waiting for {kind}: {self.seen}"
            for event in self.conn.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.seen.append(event)
            self.flush()

# without leave: the stream is reset with PROTOCOL_ERROR, its neighbours live
c = Client(int(sys.argv[2]))
c.until(h2.events.RemoteSettingsChanged)
assert not c.conn.remote_settings.enable_connect_protocol
c.conn.send_headers(1, [(":method", "CONNECT"), (":authority", "a.example:1")]); c.flush()
assert dict(c.until(h2.events.ResponseReceived, 1).headers)[b":status"] == b"200"
c.conn.send_headers(3, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a")]); c.flush()
assert c.until(h2.events.StreamReset, 3).error_code == 1
c.conn.send_data(1, b"still here"); c.flush()
assert c.until(h2.events.DataReceived, 1).data == b"still here"

# with leave: a refused upgrade is an answer, a CONNECT half-closes in order
c = Client(int(sys.argv[1]))
c.until(h2.events.RemoteSettingsChanged)
assert c.conn.remote_settings.enable_connect_protocol == 1
c.conn.send_headers(1, [(":method", "CONNECT"), (":authority", "a.example:1")]); c.flush()
c.until(h2.events.ResponseReceived, 1)
c.conn.send_data(1, b"bye", end_stream=True); c.flush()
assert c.until(h2.events.DataReceived, 1).data == b"bye"
c.until(h2.events.StreamEnded, 1)
c.conn.send_headers(3, [(":method", "CONNECT"), (":protocol", "foo"), (":scheme", "http"), (":path", "/"), (":authority", "a")]); c.flush()
assert dict(c.until(h2.events.ResponseReceived, 3).headers)[b":status"] == b"403"
c.conn.send_headers(5, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("sec-websocket-version", "13")]); c.flush()
status = dict(c.until(h2.events.ResponseReceived, 5).headers)[b":status"]
assert status == b"502", status  # the origin's 200 is no 101
c.conn.send_headers(7, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], end_stream=True); c.flush()
assert dict(c.until(h2.events.ResponseReceived, 7).headers)[b":status"] == b"200"
print("ok")
"#;
    assert_eq!(python(script, &[&with.to_string(), &without.to_string()]), "ok\n");
}
