//! The table of ends over HTTP/3: what a client does to its stream, seen by the TCP upstream, and the reverse, with codes.

use adit_tests::aioquic::CLIENT;
use adit_tests::config::{Hop, cluster, terminate};
use adit_tests::{Proxy, free_port, python};

/// A TCP upstream in the same script: `upstream()` is the next connection's (reader, writer).
const UPSTREAM: &str = r#"
import socket, struct
class Upstream:
    def __init__(self):
        self.queue = asyncio.Queue()
    async def start(self, port):
        async def took(reader, writer):
            await self.queue.put((reader, writer))
        self.server = await asyncio.start_server(took, "127.0.0.1", port)
    async def next(self):
        async with asyncio.timeout(40):
            return await self.queue.get()

def rst(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

async def rest(reader):
    """What is left to read, and how it ended."""
    data = b""
    try:
        async with asyncio.timeout(40):
            while piece := await reader.read(65536):
                data += piece
        return data, "fin"
    except ConnectionResetError:
        return data, "rst"

async def tunnel(c, upstream):
    s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
    reader, writer = await upstream.next()
    got = await c.until(s, lambda s: s["headers"])
    assert got["headers"][b":status"] == b"200", got
    c.send(s, b"up")
    assert await reader.readexactly(2) == b"up"
    writer.write(b"down")
    await c.until(s, lambda s: s["data"] == b"down")
    return s, reader, writer
"#;

/// Runs `body` with `c`, a client, and `upstream`, within adit that terminates CONNECT at a QUIC listener. `more` are fields of
/// its connection manager, `quic` fields of `quic_options`.
fn run(body: &str, more: &str, quic: &str) -> Proxy {
    let (front, at) = (free_port(), free_port());
    let listener = Hop::Http3.listener("h", front, &terminate("c"), more);
    let listener = listener.replace("quic_options: {}", &format!("quic_options: {{ {quic} }}"));
    let adit = Proxy::adit(&adit_tests::config::resources(&[listener], &[cluster("c", at, "")]));
    let body: String = body.lines().map(|line| format!("        {line}\n")).collect();
    let script = format!(
        "{CLIENT}{UPSTREAM}\nasync def main():\n    upstream = Upstream()\n    await upstream.start(int(sys.argv[2]))\n    \
         async with client(int(sys.argv[1])) as c:\n{body}    print(\"ok\")\nasyncio.run(main())\n"
    );
    assert_eq!(python(&script, &[&front.to_string(), &at.to_string()]), "ok\n");
    adit.wait_stat("cluster.c.upstream_cx_active", 0);
    adit.wait_stat("http.h.downstream_rq_active", 0);
    adit
}

#[test]
fn a_fin_either_way_leaves_the_other_direction_open() {
    run(
        r#"
s, reader, writer = await tunnel(c, upstream)
c.send(s, b"last words", end=True)
assert await rest(reader) == (b"last words", "fin")
await asyncio.sleep(0.1)
writer.write(b"x" * 1000000)
writer.close()
got = await c.until(s, lambda s: s["end"])
assert len(got["data"]) == 1000004 and got["reset"] is None and got["stopped"] is None, got["reset"]
s, reader, writer = await tunnel(c, upstream)
writer.write(b"last words")
writer.write_eof()
got = await c.until(s, lambda s: s["end"])
assert got["data"] == b"downlast words" and got["stopped"] is None, got
await asyncio.sleep(0.1)
c.send(s, b"x" * 1000000, end=True)
data, end = await rest(reader)
assert (len(data), end) == (1000000, "fin")
"#,
        "",
        "",
    );
}

/// RESET_STREAM alone, with several codes; STOP_SENDING goes the other way and ends it too.
#[test]
fn a_reset_by_the_client_is_an_rst_for_the_upstream() {
    let adit = run(
        r#"
for code in (0x10c, 0x102, 0x10f, 0x100, 0x12345):
    s, reader, writer = await tunnel(c, upstream)
    c._quic.reset_stream(s, code)
    c.transmit()
    assert await rest(reader) == (b"", "rst"), hex(code)
    got = await c.until(s, lambda s: s["reset"] is not None or s["end"])
    assert got["reset"] is not None and not got["end"], got
"#,
        "",
        "",
    );
    assert!(adit.stat("http3.rx_reset") >= 5);
}

#[test]
fn a_client_that_stops_reading_ends_the_tunnel() {
    run(
        r#"
for code in (0x10c, 0x100):
    s, reader, writer = await tunnel(c, upstream)
    c._quic.stop_stream(s, code)
    c.transmit()
    data, end = await rest(reader)
    assert data == b"" and end == "rst", (data, end)
# Both at once, as browsers do.
s, reader, writer = await tunnel(c, upstream)
c._quic.stop_stream(s, 0x10c)
c._quic.reset_stream(s, 0x10c)
c.transmit()
assert await rest(reader) == (b"", "rst")
"#,
        "",
        "",
    );
}

/// An RST of the upstream is H3_CONNECT_ERROR (RFC 9114 section 4.4), and its neighbours go on.
#[test]
fn an_rst_of_the_upstream_is_a_connect_error() {
    run(
        r#"
neighbour, other, _ = await tunnel(c, upstream)
s, reader, writer = await tunnel(c, upstream)
rst(writer)
got = await c.until(s, lambda s: s["reset"] is not None or s["end"])
assert got["reset"] == 0x10f and not got["end"], got
c.send(neighbour, b"still", end=True)
assert await rest(other) == (b"still", "fin")
c._quic.reset_stream(neighbour, 0x10c)
c._quic.stop_stream(neighbour, 0x10c)
c.transmit()
"#,
        "",
        "",
    );
}

#[test]
fn a_closed_connection_is_an_rst_for_every_upstream() {
    for how in ["c._quic.close(error_code=0x100)", "c._quic.close(error_code=0x10c, reason_phrase='gone')"] {
        run(
            &format!(
                r#"
tunnels = [await tunnel(c, upstream) for _ in range(5)]
{how}
c.transmit()
for _, reader, _ in tunnels:
    assert await rest(reader) == (b"", "rst")
"#
            ),
            "",
            "",
        );
    }
}

#[test]
fn a_client_that_vanishes_is_an_rst_after_the_network_idle_timeout() {
    run(
        r#"
tunnels = [await tunnel(c, upstream) for _ in range(3)]
class Gone:
    def sendto(self, *args):
        pass
c._transport = Gone()
for _, reader, _ in tunnels:
    assert await rest(reader) == (b"", "rst")
"#,
        "",
        "idle_timeout: 3s",
    );
}

#[test]
fn an_idle_tunnel_is_reset_and_bytes_keep_it() {
    run(
        r#"
s, reader, writer = await tunnel(c, upstream)
for _ in range(6):
    await asyncio.sleep(0.7)
    c.send(s, b"x")
    assert await reader.readexactly(1) == b"x"
got = await c.until(s, lambda s: s["reset"] is not None or s["end"])
assert got["reset"] is not None and not got["end"], got
data, _ = await rest(reader)
assert data == b""
# The connection is not concerned.
s, reader, writer = await tunnel(c, upstream)
c.send(s, b"", end=True)
assert await rest(reader) == (b"", "fin")
writer.close()
await c.until(s, lambda s: s["end"])
"#,
        "stream_idle_timeout: 3s\n",
        "",
    );
}

/// Ten tunnels whose reader has stopped hold up no other on the connection.
#[test]
fn stalled_streams_hold_up_no_other() {
    run(
        r#"
stalled = [await tunnel(c, upstream) for _ in range(10)]
for s, reader, writer in stalled:
    # asyncio's reader stops at 128 KiB; the client's bytes stay on their way.
    c.send(s, b"x" * 3000000)
await asyncio.sleep(0.5)
s, reader, writer = await tunnel(c, upstream)
c.send(s, b"y" * 2000000, end=True)
async with asyncio.timeout(40):
    data, end = await rest(reader)
assert (len(data), end) == (2000000, "fin")
writer.write(b"z" * 2000000)
writer.close()
got = await c.until(s, lambda s: s["end"])
assert len(got["data"]) == 2000004
for s, reader, writer in stalled:
    assert len(await reader.readexactly(3000000)) == 3000000
    c.send(s, b"", end=True)
    assert await rest(reader) == (b"", "fin")
    writer.close()
"#,
        "",
        "",
    );
}
