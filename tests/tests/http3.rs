//! HTTP/3 by python's `aioquic`.
#![cfg(feature = "e2e")]

use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, prefix, quic_listener, resources, terminate, upgrades};
use adit_tests::{Proxy, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A small client over aioquic's HTTP/3 layer: requests with any pseudo-fields, data both ways, resets seen with codes.
pub const CLIENT: &str = r#"
import asyncio, ssl, sys
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset, StopSendingReceived

class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic)
        self.streams, self.changed = {}, asyncio.Event()
    def quic_event_received(self, event):
        if isinstance(event, StreamReset):
            self.of(event.stream_id)["reset"] = event.error_code
        if isinstance(event, StopSendingReceived):
            self.of(event.stream_id)["stopped"] = event.error_code
        for event in self.h3.handle_event(event):
            stream = self.of(event.stream_id)
            if isinstance(event, HeadersReceived):
                stream["headers"] = dict(event.headers)
            if isinstance(event, DataReceived):
                stream["data"] += event.data
            stream["end"] |= event.stream_ended
        self.changed.set()
    def of(self, stream):
        return self.streams.setdefault(stream, {"headers": None, "data": b"", "end": False, "reset": None, "stopped": None})
    def request(self, headers, end=False):
        stream = self._quic.get_next_available_stream_id()
        self.of(stream)
        self.h3.send_headers(stream, [(k.encode(), v.encode()) for k, v in headers], end)
        self.transmit()
        return stream
    def send(self, stream, data, end=False):
        self.h3.send_data(stream, data, end)
        self.transmit()
    async def until(self, stream, ready):
        async with asyncio.timeout(10):
            while not ready(self.of(stream)):
                self.changed.clear()
                await self.changed.wait()
        return self.of(stream)

def client(port):
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost")
    return connect("127.0.0.1", port, configuration=config, create_protocol=Client)
"#;

#[test]
fn get_websocket_and_connect() {
    let certs = Certs::new();
    let (hello, websocket, echo) = (origin::http(HELLO).0, origin::http(SWITCH).0, origin::echo());
    let port = free_port();
    let routes = format!(
        "{}- match: {{ prefix: /chat }}\n  route: {{ cluster: websocket }}\n{}",
        terminate("tcp"),
        prefix("hello")
    );
    let more = format!("{}http3_protocol_options: {{ allow_extended_connect: true }}\n", upgrades(&["websocket"]));
    let listener = quic_listener("q", port, &hcm("h", &routes, &more), &certs.server_context("h3"));
    let clusters = [cluster("hello", hello, ""), cluster("websocket", websocket, ""), cluster("tcp", echo, "")];
    let adit = Proxy::adit(&resources(&[listener], &clusters));
    let script = format!(
        "{CLIENT}{}",
        r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        base = [(":scheme", "https"), (":authority", "localhost")]
        s = c.request([(":method", "GET"), (":path", "/")] + base, end=True)
        got = await c.until(s, lambda s: s["end"])
        assert (got["headers"][b":status"], got["data"]) == (b"200", b"hello\n"), got
        # WebSocket (RFC 9220)
        s = c.request([(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/chat")] + base + [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")])
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"200", got
        c.send(s, b"frames", end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"] == b"frames", got
        # CONNECT, terminated
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"200", got
        c.send(s, b"x" * 300000)
        await c.until(s, lambda s: len(s["data"]) == 300000)
        c.send(s, b"last", end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"][-4:] == b"last"
        # refusals
        s = c.request([(":method", "CONNECT"), (":protocol", "foo"), (":path", "/")] + base)
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"403", got
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:0")])
        got = await c.until(s, lambda s: s["headers"] or s["reset"])
        assert got["reset"] or got["headers"][b":status"] == b"400", got
    print("ok")
asyncio.run(main())
"#
    );
    assert_eq!(python(&script, &[&port.to_string()]), "ok\n");
    adit.wait_stat("http.h.downstream_cx_http3_active", 0);
    assert_eq!(adit.stat("http.h.downstream_cx_http3_total"), 1);
    assert_eq!(adit.stat("http.h.downstream_rq_http3_total"), 5);
}
