//! Upgrades and CONNECT across HTTP/1.1 and HTTP/2 hops, field by field: what leaves and what comes back, with Python's `h2` as
//! native client and server.
#![cfg(feature = "e2e")]

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, resources, tcp_proxy};
use adit_tests::{Proxy, free_port, python};

/// An HTTP/1.1 server, an HTTP/2 server, a client of either version. The last part of a path says what the servers do.
const PEERS: &str = r#"
import base64, hashlib, re, socket, sys, threading
import h2.connection, h2.config, h2.events, h2.settings
heads1, heads2 = {}, {}
def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
def listening(port, serve):
    listener = socket.create_server(("127.0.0.1", port))
    def run():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
def read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte: return None
        head += byte
    return head.decode()
def fields(head):
    return {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)}
def echo(sock):
    try:
        while data := sock.recv(65536):
            sock.sendall(data)
    except OSError:
        pass
    sock.close()
def server1(sock):
    head = read_head(sock)
    if head is None: return
    path = head.split(" ")[1]
    heads1[path] = head
    f, how = fields(head), path.rsplit("/", 1)[1]
    if how == "200":
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        return
    answer = f"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {f['upgrade']}\r\n"
    if "sec-websocket-key" in f and how != "silent":
        answer += f"sec-websocket-accept: {accept_of(f['sec-websocket-key']) if how == 'ok' else 'd3Jvbmc='}\r\n"
    sock.sendall((answer + "\r\n").encode())
    echo(sock)
def server2(sock):
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, validate_inbound_headers=False, validate_outbound_headers=False))
    conn.initiate_connection()
    conn.update_settings({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    sock.sendall(conn.data_to_send())
    while data := sock.recv(65536):
        for event in conn.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                f = [(k.decode(), v.decode()) for k, v in event.headers]
                d = dict(f)
                heads2[d.get(":path", d.get(":authority"))] = f
                how = d[":path"].rsplit("/", 1)[1] if ":path" in d else d[":authority"].split(".")[0]
                conn.send_headers(event.stream_id, [(":status", how if how.isdigit() else "200")])
            elif isinstance(event, h2.events.DataReceived):
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                conn.send_data(event.stream_id, event.data)
            elif isinstance(event, h2.events.StreamEnded):
                conn.end_stream(event.stream_id)
        sock.sendall(conn.data_to_send())
def client1(port, path, token, more="", method="GET"):
    sock = socket.create_connection(("127.0.0.1", port), timeout=40)
    sock.sendall(f"{method} {path} HTTP/1.1\r\nhost: a.example\r\nconnection: Upgrade\r\nupgrade: {token}\r\n{more}\r\n".encode())
    head = read_head(sock)
    status = int(head.split(" ")[1])
    if status == 101:
        sock.sendall(b"payload")
        got = b""
        while len(got) < 7: got += sock.recv(7)
        assert got == b"payload", got
    sock.close()
    return status, fields(head)
class Client2:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=40)
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False, validate_inbound_headers=False))
        self.conn.initiate_connection()
        self.sock.sendall(self.conn.data_to_send())
        self.stream = -1
    def request(self, fields, payload=b"payload"):
        self.stream += 2
        self.conn.send_headers(self.stream, fields)
        self.sock.sendall(self.conn.data_to_send())
        head, got = None, b""
        while True:
            for event in self.conn.receive_data(self.sock.recv(65536)):
                if getattr(event, "stream_id", None) != self.stream: continue
                if isinstance(event, h2.events.ResponseReceived):
                    head = {k.decode(): v.decode() for k, v in event.headers}
                    if not head[":status"].startswith("2"): return int(head[":status"]), head
                    self.conn.send_data(self.stream, payload)
                elif isinstance(event, h2.events.DataReceived):
                    got += event.data
                elif isinstance(event, h2.events.StreamReset):
                    return f"reset {event.error_code}", {}
            self.sock.sendall(self.conn.data_to_send())
            if head and len(got) >= len(payload):
                assert got == payload, got
                return int(head[":status"]), head
    def upgrade(self, path, token, *more):
        return self.request([(":method", "CONNECT"), (":protocol", token), (":scheme", "http"), (":path", path), (":authority", "a.example"), *more])
"#;

fn allow() -> String {
    "upgrade_configs: [{ upgrade_type: websocket }, { upgrade_type: foo }, { upgrade_type: CONNECT }]\n\
     http2_protocol_options: { allow_connect: true }\n"
        .into()
}

/// adit before both servers, and before another adit that is before the HTTP/1.1 server; runs the script with its ports.
fn run(script: &str) {
    let (one, two, front, far, raw) = (free_port(), free_port(), free_port(), free_port(), free_port());
    let routes = "- match: { prefix: /h1/ }\n  route: { cluster: one }\n- match: { prefix: /h2/ }\n  route: { cluster: two }\n\
                  - match: { prefix: /far/ }\n  route: { cluster: far }\n\
                  - match: { connect_matcher: {} }\n  route: { cluster: two }\n";
    let _far = Proxy::adit(&resources(
        &[listener("far", far, &hcm("far", &prefix("one"), &allow()))],
        &[cluster("one", one, "")],
    ));
    let tunnel = "tunneling_config: { hostname: '204.example:1' }\n";
    let _adit = Proxy::adit(&resources(
        &[listener("front", front, &hcm("front", routes, &allow())), listener("raw", raw, &tcp_proxy("two", tunnel))],
        &[cluster("one", one, ""), cluster("two", two, HTTP2), cluster("far", far, HTTP2)],
    ));
    let start = "one, two, front, raw = map(int, sys.argv[1:5])\nlistening(one, server1)\nlistening(two, server2)\n";
    let ports = [one, two, front, raw].map(|port| port.to_string());
    let args: Vec<&str> = ports.iter().map(|port| &**port).collect();
    assert_eq!(python(&format!("{PEERS}{start}{script}print('ok')\n"), &args), "ok\n");
}

/// WebSocket and another token over h1 -> h1, h1 -> h2, h2 -> h1, h2 -> h2, h1 -> h2 -> h1 and h2 -> h2 -> h1.
#[test]
fn upgrades_cross_every_pair_of_versions() {
    run(r#"
c = Client2(front)
for token in ["websocket", "foo"]:
    more = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n" if token == "websocket" else ""
    for way in ["h1", "h2", "far"]:
        status, f = client1(front, f"/{way}/{token}/ok", token, more)
        assert (status, f["upgrade"], f["connection"].lower()) == (101, token, "upgrade"), (way, token, status, f)
        if token == "websocket":
            assert f["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", (way, f)
        status, f = c.upgrade(f"/{way}/{token}/ok2".replace("ok2", "two/ok"), token)
        assert status == 200, (way, token, status, f)
        assert not {"connection", "upgrade", "sec-websocket-accept", "content-length", "transfer-encoding"} & set(f), f
    seen = dict(heads2[f"/h2/{token}/ok"])
    assert (seen[":method"], seen[":protocol"], seen[":scheme"], seen[":authority"]) == ("CONNECT", token, "http", "a.example"), seen
    assert not {"connection", "upgrade", "host", "content-length", "transfer-encoding", "sec-websocket-key"} & set(seen) - {"sec-websocket-key"}, seen
    seen = heads1[f"/h1/{token}/two/ok"]
    assert seen.startswith(f"GET /h1/{token}/two/ok HTTP/1.1\r\n") and fields(seen)["upgrade"] == token, seen
"#);
}

/// The method of an upgrade survives between two adits, and is GET toward others; an extended CONNECT has no framing fields.
#[test]
fn methods_and_framing_fields() {
    run(r#"
for method in ["POST", "PUT", "OPTIONS"]:
    status, _ = client1(front, f"/far/{method}/ok", "foo", "content-length: 0\r\n", method)
    assert status == 101, status
    seen = heads1[f"/far/{method}/ok"]
    assert seen.startswith(f"{method} /far/{method}/ok HTTP/1.1\r\n"), seen
    assert "x-adit" not in seen, seen
    for framing in ["content-length: 7", "transfer-encoding: chunked"]:
        path = f"/h2/{method}/{framing[:3]}/ok"
        client1(front, path, "foo", framing + "\r\n", method)
        seen = dict(heads2[path])
        assert seen[":method"] == "CONNECT" and not {"content-length", "transfer-encoding", "te", "connection"} & set(seen), seen
# A field of that name that a client made up counts for nothing.
status, _ = client1(front, "/h1/made-up/ok", "foo", "x-adit-upgrade-method: DELETE\r\n")
assert status == 101 and heads1["/h1/made-up/ok"].startswith("GET "), heads1["/h1/made-up/ok"]
"#);
}

/// A key is made where there is none, and only its answer is checked and kept back.
#[test]
fn keys_and_their_answers() {
    run(r#"
c = Client2(front)
key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
for way in ["h1", "far"]:
    status, f = c.upgrade(f"/{way}/ok", "websocket")
    assert status == 200 and "sec-websocket-accept" not in f, (status, f)
    made = fields(heads1[f"/{way}/ok"])["sec-websocket-key"]
    assert len(base64.b64decode(made)) == 16, made
    for how in ["silent", "wrong"]:
        status, f = c.upgrade(f"/{way}/{how}", "websocket")
        assert status == 502, (way, how, status)
        # The client's own key is its own business.
        status, f = c.upgrade(f"/{way}/own/{how}", "websocket", key)
        assert status == 200 and f.get("sec-websocket-accept") == {"silent": None, "wrong": "d3Jvbmc="}[how], (way, how, status, f)
        assert fields(heads1[f"/{way}/own/{how}"])["sec-websocket-key"] == key[1]
status, f = client1(front, "/h1/own/wrong", "websocket", f"sec-websocket-key: {key[1]}\r\n")
assert (status, f["sec-websocket-accept"]) == (101, "d3Jvbmc="), f
# Another token has no key.
status, _ = c.upgrade("/h1/foo/ok", "foo")
assert status == 200 and "sec-websocket-key" not in heads1["/h1/foo/ok"].lower()
# A native server's answer is completed for a client of HTTP/1.1.
status, f = client1(front, "/h2/ok", "websocket", f"sec-websocket-key: {key[1]}\r\n")
assert (status, f["sec-websocket-accept"]) == (101, accept_of(key[1])), (status, f)
"#);
}

/// A last hop's 200 to an upgrade is no acceptance; any 2xx to a CONNECT is.
#[test]
fn answers_that_accept_and_do_not() {
    run(r#"
c = Client2(front)
for way in ["h1", "far"]:
    for token in ["websocket", "foo"]:
        status, _ = c.upgrade(f"/{way}/{token}/200", token)
        assert status == 502, (way, token, status)
        status, f = client1(front, f"/{way}/{token}/200", token)
        assert status != 101 and (status == 502 or way == "h1"), (way, token, status)
# A native server's 204 is not the acceptance of an extended CONNECT (RFC 8441 section 5).
status, _ = client1(front, "/h2/204", "foo")
assert status != 101, status
for code in ["200", "201", "204", "206", "299"]:
    sock = socket.create_connection(("127.0.0.1", front), timeout=40)
    sock.sendall(f"CONNECT {code}.example:1 HTTP/1.1\r\nhost: {code}.example:1\r\n\r\n".encode())
    head = read_head(sock)
    assert head.startswith(f"HTTP/1.1 {code} "), head
    assert "content-length" not in head and "transfer-encoding" not in head, head
    sock.sendall(b"tunnel")
    assert sock.recv(6) == b"tunnel"
    status, _ = c.request([(":method", "CONNECT"), (":authority", f"{code}.example:1")])
    assert status == int(code), status
sock = socket.create_connection(("127.0.0.1", raw), timeout=40)
sock.sendall(b"raw")
assert sock.recv(3) == b"raw"
for code in ["302", "407", "503"]:
    status, _ = c.request([(":method", "CONNECT"), (":authority", f"{code}.example:1")])
    assert status == int(code), status
"#);
}

/// client -> h1 -> front -> h2 -> sidecar -> h1 -> app, and the same from an HTTP/2 client, with adit and Envoy in each place.
#[test]
fn either_proxy_may_be_envoy() {
    for (near, far) in [("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")] {
        let start = |who: &str, yaml: &str| if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) };
        let (one, front, middle) = (free_port(), free_port(), free_port());
        let _far = start(
            far,
            &resources(&[listener("far", middle, &hcm("far", &prefix("one"), &allow()))], &[cluster("one", one, "")]),
        );
        let _near = start(
            near,
            &resources(
                &[listener("near", front, &hcm("near", &prefix("far"), &allow()))],
                &[cluster("far", middle, HTTP2)],
            ),
        );
        let script = r#"
one, front, both = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "adit adit"
listening(one, server1)
c = Client2(front)
key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
status, f = client1(front, "/a/ok", "websocket", key)
assert (status, f["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), (status, f)
status, _ = client1(front, "/b/ok", "foo")
assert status == 101 and fields(heads1["/b/ok"])["upgrade"] == "foo"
status, _ = client1(front, "/c/ok", "foo", "content-length: 0\r\n", "POST")
assert status == 101 and heads1["/c/ok"].startswith("POST " if both else "GET "), heads1["/c/ok"]
status, _ = c.upgrade("/d/ok", "websocket", ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))
assert status == 200 and fields(heads1["/d/ok"])["upgrade"] == "websocket"
status, _ = c.upgrade("/e/ok", "foo")
assert status == 200 and heads1["/e/ok"].startswith("GET ")
print("ok")
"#;
        let both = format!("{near} {far}");
        let out = python(&format!("{PEERS}{script}"), &[&one.to_string(), &front.to_string(), &both]);
        assert_eq!(out, "ok\n", "{both}");
    }
}
