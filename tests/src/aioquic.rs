//! HTTP/3 by python's `aioquic`: the beginning of scripts for `python`.

/// A small client over aioquic's HTTP/3 layer: requests with any pseudo-fields, data and datagrams both ways, resets seen
/// with codes. `client(port)` is a context manager; `Client` also serves as the protocol of a server.
pub const CLIENT: &str = r#"
import asyncio, ssl, sys
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset, StopSendingReceived

class WithDatagrams(H3Connection):
    def _get_local_settings(self):
        return {**super()._get_local_settings(), Setting.H3_DATAGRAM: 1}

class Client(QuicConnectionProtocol):
    H3 = WithDatagrams
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.h3 = self.H3(self._quic)
        self.streams, self.changed, self.closed = {}, asyncio.Event(), None
    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.closed = event
        if isinstance(event, StreamReset):
            self.of(event.stream_id)["reset"] = event.error_code
        if isinstance(event, StopSendingReceived):
            self.of(event.stream_id)["stopped"] = event.error_code
        for event in self.h3.handle_event(event):
            stream = self.of(event.stream_id)
            if isinstance(event, DatagramReceived):
                stream["datagrams"].append(event.data)
                self.seen(event, stream)
                continue
            if isinstance(event, HeadersReceived):
                stream["headers"] = dict(event.headers)
            if isinstance(event, DataReceived):
                stream["data"] += event.data
            stream["end"] |= event.stream_ended
            self.seen(event, stream)
        self.changed.set()
    def seen(self, event, stream):
        pass
    def of(self, stream):
        return self.streams.setdefault(stream, {"headers": None, "data": b"", "datagrams": [], "end": False, "reset": None, "stopped": None})
    def request(self, headers, end=False):
        stream = self._quic.get_next_available_stream_id()
        self.of(stream)
        self.h3.send_headers(stream, [(k.encode(), v.encode()) for k, v in headers], end)
        self.transmit()
        return stream
    def send(self, stream, data, end=False):
        self.h3.send_data(stream, data, end)
        self.transmit()
    def datagram(self, stream, data):
        self.h3.send_datagram(stream, data)
        self.transmit()
    async def until(self, stream, ready):
        async with asyncio.timeout(40):
            while not ready(self.of(stream)):
                assert not self.closed, self.closed
                self.changed.clear()
                await self.changed.wait()
        return self.of(stream)

def client(port):
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost", max_datagram_frame_size=65536)
    return connect("127.0.0.1", port, configuration=config, create_protocol=Client)
"#;
