//! The proxy in this process, and an origin.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use adit_server::{DrainStrategy, LogLevel, Mode, Options};

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A plain request, as a browser or a client library sends it.
pub const GET: &str = "GET /some/path?q=1 HTTP/1.1\r\nhost: origin.test\r\nuser-agent: test/1.0\r\naccept: */*\r\n\r\n";

/// The handshake of RFC 6455 section 1.2.
pub const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: origin.test\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// A tunnel that the proxy terminates.
pub const CONNECT: &str = "CONNECT origin.test:443 HTTP/1.1\r\nhost: origin.test:443\r\n\r\n";

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
    sec-websocket-accept: s3pPLBmiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";

/// A listener of the proxy.
pub struct Target(SocketAddr);

impl Target {
    pub fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.0).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }
}

/// The running proxy. It ends with the process.
pub struct Adit {
    pub requests: Target,
    pub websocket: Target,
    pub connect: Target,
    pub tcp: Target,
    /// A tunnel that goes on to a listener inside the process as a CONNECT over HTTP/2, and from there to the origin.
    pub hops: Target,
}

impl Adit {
    /// Starts it with one worker, and waits until it listens.
    pub fn start() -> Self {
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = origin.local_addr().unwrap().port();
        std::thread::spawn(move || serve(&origin));
        let folder = std::env::temp_dir().join(format!("adit-allocations-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("admin");
        let options = options(configuration(port), file.clone());
        std::thread::spawn(move || panic!("the proxy ended with {}", adit_server::run(options)));
        let deadline = Instant::now() + PATIENCE;
        let listeners = loop {
            let listeners = ask(&file).unwrap_or_default();
            if listeners.matches("127.0.0.1").count() == 5 {
                break listeners;
            }
            assert!(Instant::now() < deadline, "the proxy does not start: {listeners}");
            std::thread::sleep(Duration::from_millis(20));
        };
        std::fs::remove_dir_all(&folder).unwrap();
        crate::counting::started();
        let target = |name: &str| {
            let line = listeners.lines().find_map(|line| line.strip_prefix(&format!("{name}::")));
            Target(line.unwrap_or_else(|| panic!("no {name} in {listeners}")).parse().unwrap())
        };
        Self {
            requests: target("requests"),
            websocket: target("websocket"),
            connect: target("connect"),
            tcp: target("tcp"),
            hops: target("hops"),
        }
    }
}

/// What the admin interface says of listeners, once it is up and the workers accept.
fn ask(file: &std::path::Path) -> Option<String> {
    let admin: SocketAddr = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let get = |path: &str| {
        let mut socket = TcpStream::connect(admin).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    get("/ready")?.starts_with("HTTP/1.1 200").then(|| get("/listeners"))?
}

fn options(config_yaml: String, admin_address_path: std::path::PathBuf) -> Options {
    Options {
        version: "test",
        demonstration: false,
        config_path: None,
        config_yaml: Some(config_yaml),
        mode: Mode::Serve,
        share_ports: false,
        concurrency: Some(1),
        log_level: LogLevel::Warning,
        component_log_level: Vec::new(),
        log_path: None,
        admin_address_path: Some(admin_address_path),
        drain_time: Duration::from_secs(1),
        drain_strategy: DrainStrategy::Immediate,
        file_flush_interval: Duration::from_secs(10),
        file_flush_min_size: 64 << 10,
        allow_unknown_static_fields: false,
        skip_deprecated_logs: false,
        service_node: None,
        service_cluster: None,
        service_zone: None,
        unhonoured: Vec::new(),
    }
}

fn configuration(origin: u16) -> String {
    let any = "socket_address: { address: 127.0.0.1, port_value: 0 }";
    let plain = "{ match: { prefix: / }, route: { cluster: origin, timeout: 0s } }";
    let connect = "{ match: { connect_matcher: {} }, route: { cluster: origin, timeout: 0s, \
         upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] } }";
    let tcp = "{ name: tcp, typed_config: { \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: tcp, cluster: origin } }";
    let tunnelled = "{ name: tcp, typed_config: { \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: hops, cluster: second, tunneling_config: { hostname: \"origin.test:80\" } } }";
    let internal = "{ name: envoy.bootstrap.internal_listener, typed_config: { \
         \"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener } }";
    let mut text = format!(
        "admin: {{ address: {{ {any} }} }}\nbootstrap_extensions: [{internal}]\nstatic_resources:\n  listeners:\n  - {{ name: \
         second, internal_listener: {{}}, filter_chains: [{{ filters: [{}] }}] }}\n",
        hcm(connect, "[]")
    );
    for (name, filter) in [
        ("requests", hcm(plain, "[]")),
        ("websocket", hcm(plain, "[{ upgrade_type: websocket }]")),
        ("connect", hcm(connect, "[]")),
        ("tcp", tcp.to_owned()),
        ("hops", tunnelled.to_owned()),
    ] {
        text += &format!("  - {{ name: {name}, address: {{ {any} }}, filter_chains: [{{ filters: [{filter}] }}] }}\n");
    }
    text + &format!(
        "  clusters:\n  - name: origin\n    connect_timeout: 5s\n    load_assignment: {{ cluster_name: origin, endpoints: \
         [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: 127.0.0.1, port_value: {origin} }} }} }} }}] }}] }}\n  - name: second\n    \
         load_assignment: {{ cluster_name: second, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         envoy_internal_address: {{ server_listener_name: second }} }} }} }}] }}] }}\n    typed_extension_protocol_options: {{ \
         envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{ \
         http2_protocol_options: {{}} }} }} }}\n"
    )
}

fn hcm(route: &str, upgrades: &str) -> String {
    format!(
        "{{ name: http, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: http, generate_request_id: false, upgrade_configs: {upgrades}, \
         route_config: {{ virtual_hosts: [{{ name: all, domains: [\"*\"], routes: [{route}] }}] }}, \
         http_filters: [{{ name: router, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}] }} }}"
    )
}

/// Serves each connection on a thread of its own: requests, an upgrade, or else echoes.
fn serve(listener: &TcpListener) {
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        connection.set_nodelay(true).unwrap();
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        // An error is the connection's end.
        thread.spawn(move || drop(answer(&mut connection))).unwrap();
    }
}

fn answer(connection: &mut TcpStream) -> std::io::Result<()> {
    let mut first = [0; 1];
    while connection.peek(&mut first)? == 1 && first == *b"G" {
        let head = read_head(connection)?;
        if head.contains("upgrade: websocket") {
            connection.write_all(ACCEPTED.as_bytes())?;
            break;
        }
        connection.write_all(ANSWER.as_bytes())?;
    }
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            n => connection.write_all(&buffer[..n])?,
        }
    }
}

/// Reads to the empty line and no further.
pub fn read_head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
