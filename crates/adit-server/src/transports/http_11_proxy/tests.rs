#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adit_filter::upstream::{Host, HostInfo, Report};
use adit_io::{ConnInfo, Sharing};
use adit_upstream::transport::RawBuffer;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

struct TestHost(HostInfo);

impl Host for TestHost {
    fn info(&self) -> &HostInfo {
        &self.0
    }

    fn report(&self, _report: Report) {}
}

fn context(hostname: &str, metadata: Metadata) -> TransportContext {
    let address = Address::Ip("10.1.2.3:443".parse().unwrap());
    let info = HostInfo { address, hostname: hostname.into(), cluster: "c".into(), metadata };
    TransportContext {
        host: Arc::new(TestHost(info)),
        cluster_metadata: Metadata::default(),
        clusters: None,
        downstream: None,
        state: FilterState::default(),
        metadata: Metadata::default(),
        auto_sni: None,
        auto_san_validation: false,
        verify_name: None,
        alpn: &[],
    }
}

fn socket_with(default: Option<&str>) -> Http11Proxy {
    Http11Proxy { default: default.map(|address| address.parse().unwrap()), inner: Arc::new(RawBuffer) }
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

fn fields(name: &str, value: &str) -> Value {
    Value::Struct([(name.into(), text(value))].into_iter().collect())
}

/// What the proxy was sent, and what became of the connection, given its answer piece by piece.
async fn ask(ctx: &TransportContext, answer: &[&str]) -> (String, Result<Io, TransportError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (mut proxy, _) = listener.accept().await.unwrap();
    let io = Io::tcp(client, Arc::new(ConnInfo::new(1, Address::Ip(address), Address::Ip(address))));
    let socket = socket_with(Some("127.0.0.1:3128"));
    let serve = async {
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(proxy.read_u8().await.unwrap());
        }
        for piece in answer {
            proxy.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        drop(proxy);
        String::from_utf8(got).unwrap()
    };
    tokio::join!(serve, socket.connect(io, ctx))
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_host_and_the_tunnel_follows_its_head() {
    let ctx = context("", Metadata::default());
    let (sent, io) = ask(&ctx, &["HTTP/1.1 200 Conn", "ection established\r\nVia: x\r\n\r", "\nhello"]).await;
    assert_eq!(sent, "CONNECT 10.1.2.3:443 HTTP/1.1\r\nHost: 10.1.2.3:443\r\n\r\n");
    let mut got = String::new();
    io.unwrap().read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "hello");
}

#[tokio::test]
async fn names_and_authorization_are_sent() {
    for (hostname, authority) in [("a.test", "a.test:443"), ("a.test:8443", "a.test:8443"), ("[::1]:9", "[::1]:9")] {
        let mut metadata = Metadata::default();
        metadata.set(OPTIONS_KEY, fields(AUTHORIZATION, "Basic dTpw"));
        let (sent, io) = ask(&context(hostname, metadata), &["HTTP/1.0 200\r\n\r\n"]).await;
        assert!(io.is_ok());
        let expected =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn only_a_200_without_body_opens_the_way() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    for (answer, status) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Some(407)),
        ("HTTP/1.1 201 Created\r\n\r\n", Some(201)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Some(200)),
        ("HTTP/2 200 OK\r\n\r\n", None),
        ("HTTP/1.1 2000 OK\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\n", None),
        ("", None),
        (&*long, None),
    ] {
        let (_, io) = ask(&context("", Metadata::default()), &[answer]).await;
        let error = io.err().unwrap_or_else(|| panic!("accepted: {answer}"));
        assert_eq!(error.refusal, None, "{answer}");
        let named = status.is_none_or(|status: u16| error.reason.contains(&format!("({status})")));
        assert!(named, "{answer}: {}", error.reason);
    }
    let (_, io) = ask(&context("", Metadata::default()), &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    assert!(io.is_ok());
}

#[test]
fn the_proxy_is_chosen_by_state_then_metadata_then_default() {
    let address =
        |ctx: &TransportContext, default| socket_with(default).dial_address(ctx).map(|address| address.to_string());
    let mut ctx = context("", Metadata::default());
    assert_eq!(address(&ctx, None), None);
    assert_eq!(address(&ctx, Some("1.1.1.1:1")).as_deref(), Some("1.1.1.1:1"));
    let mut metadata = Metadata::default();
    metadata.set(METADATA_KEY, text("2.2.2.2:2"));
    ctx = context("", metadata.clone());
    assert_eq!(address(&ctx, Some("1.1.1.1:1")).as_deref(), Some("2.2.2.2:2"));
    metadata.set(METADATA_KEY, fields("address", "3.3.3.3:3"));
    ctx = context("", metadata);
    assert_eq!(address(&ctx, None).as_deref(), Some("3.3.3.3:3"));
    assert_eq!(authority(&ctx), "10.1.2.3:443");
    let key = socket_with(None).pool_key(&ctx);
    ctx.state.set(STATE_KEY, FilterValue::Text("b.example:8443, 4.4.4.4:4".into()), Sharing::None);
    assert_eq!(address(&ctx, None).as_deref(), Some("4.4.4.4:4"));
    assert_eq!(authority(&ctx), "b.example:8443");
    let other = socket_with(None).pool_key(&ctx);
    assert_ne!(key, other);
    ctx.state.set(STATE_KEY, FilterValue::Text("c.example:8443,4.4.4.4:4".into()), Sharing::None);
    assert_ne!(other, socket_with(None).pool_key(&ctx), "a tunnel is for one target");
    ctx.state.set(STATE_KEY, FilterValue::Text("no proxy".into()), Sharing::None);
    assert_eq!(address(&ctx, None).as_deref(), Some("3.3.3.3:3"));
}

#[test]
fn a_line_break_never_reaches_the_proxy() {
    assert!(request("a:1\r\nx: y", None).is_err());
    assert!(request("a:1", Some("a\r\nx: y")).is_err());
}

#[test]
fn a_cluster_that_leads_to_itself_or_checks_health_is_refused() {
    let problems = |fields: &str| {
        let text = format!("static_resources: {{ clusters: [{{ name: c, {fields} }}] }}");
        let options = adit_config::LoadOptions::default();
        let loaded = adit_config::load(&[adit_config::Source::new("a.yaml", &text)], &options).unwrap();
        let message = loaded.bootstrap.static_resources.unwrap().clusters.remove(0);
        let scope = adit_stats::Store::new(1).root();
        let site = TransportSite { cluster: "c", scope: &scope, cluster_message: &message };
        cluster_problems(&site, &Path::from("c")).len()
    };
    let through = |name: &str| format!("metadata: {{ filter_metadata: {{ {OPTIONS_KEY}: {{ cluster: {name} }} }} }}");
    let check = "health_checks: [{ timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {} }]";
    assert_eq!(problems("connect_timeout: 1s"), 0);
    assert_eq!(problems(check), 0);
    assert_eq!(problems(&through("other")), 0);
    assert_eq!(problems(&through("c")), 1);
    assert_eq!(problems(&format!("{}, {check}", through("other"))), 1);
    let endpoint = "endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } }";
    let of_host = format!(
        "load_assignment: {{ cluster_name: c, endpoints: [{{ lb_endpoints: [{{ {endpoint}, {} }}] }}] }}",
        through("c")
    );
    assert_eq!(problems(&of_host), 1);
}
