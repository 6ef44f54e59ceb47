//! Clients that choose the address: the target of a CONNECT is dialled (`use_http_header` of an ORIGINAL_DST cluster), and a
//! policy (RBAC on `:authority`) says which may be.

use adit_tests::config::{cluster, hcm, listener, resources, tcp_proxy};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, eventually, free_port, origin};

const ROUTE: &str = "\
- match: { connect_matcher: {} }
  route: { cluster: dst, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
";

const DST: &str = "  - name: dst
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 1s
    original_dst_lb_config: { use_http_header: true, http_header_name: ':authority' }
";

struct Lab {
    adit: Proxy,
    port: u16,
}

impl Lab {
    /// `policy` is the body of RBAC rules.
    fn new(policy: &str) -> Self {
        let port = free_port();
        let rbac = format!(
            "          http_filters:\n          - name: rbac\n            typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {{ {policy} }} }}\n"
        );
        let filter = hcm("h", ROUTE, "");
        let filter = if policy.is_empty() { filter } else { filter.replace("          http_filters:\n", &rbac) };
        Self { adit: Proxy::adit(&resources(&[listener("l", port, &filter)], &[DST.to_owned()])), port }
    }

    /// RBAC that lets or keeps back what this expression matches as a whole.
    fn with(action: &str, regex: &str) -> Self {
        Self::new(&format!(
            "action: {action}, policies: {{ p: {{ principals: [{{ any: true }}], permissions: [{{ header: {{ name: ':authority', \
             string_match: {{ safe_regex: {{ regex: '{regex}' }} }} }} }}] }} }}"
        ))
    }

    fn ask(&self, target: &str) -> Peer {
        let mut client = Peer::connect(self.port);
        client.send(format!("CONNECT {target} HTTP/1.1\r\n\r\n"));
        client
    }

    /// None of these is dialled, and each is answered with one of these codes and a close.
    #[track_caller]
    fn refuses(&self, targets: &[&str], codes: &[&str]) {
        for target in targets {
            let (answer, end) = self.ask(target).rest();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(codes.contains(&answer.get(9..12).unwrap_or("")), "{target}: {answer:?}");
            assert_eq!(end, End::Fin, "{target}");
        }
        assert_eq!(self.adit.stat("cluster.dst.upstream_cx_total"), 0, "something was dialled");
    }

    #[track_caller]
    fn reaches(&self, echo: u16) {
        let mut client = self.ask(&format!("127.0.0.1:{echo}"));
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        client.send("through");
        client.expect("through");
    }
}

/// A name that is public when it is checked and private when it is dialled needs a name that is resolved: none is.
#[test]
fn c17_a_request_names_addresses_and_nothing_that_is_resolved() {
    let echo = origin::echo();
    let lab = Lab::new("");
    let two = format!("127.0.0.1:{echo},127.0.0.1:{echo}");
    let (name, dot) = (format!("localhost:{echo}"), format!("127.0.0.1.:{echo}"));
    lab.refuses(&[&name, &dot, &two, "rebind.example:80", "[::1%25lo]:80"], &["400", "503"]);
    lab.reaches(echo);
}

const METADATA: [&str; 3] = ["169.254.169.254:80", "100.100.100.200:80", "[fd00:ec2::254]:80"];

/// One policy on the text is one on the address: an IPv4 address has a single spelling that is dialled.
#[test]
fn c18_metadata_services() {
    let deny = r"(169\.254\.169\.254|100\.100\.100\.200|\[fd00:ec2::254\]):.*";
    let lab = Lab::with("DENY", deny);
    lab.refuses(&METADATA, &["403"]);
    let spellings = [
        "169.254.43518:80",
        "169.16689662:80",
        "2852039166:80",
        "0xa9fea9fe:80",
        "0xa9.0xfe.0xa9.0xfe:80",
        "0251.0376.0251.0376:80",
        "169.254.169.254.:80",
        "169.254.169.0254:80",
        "[::ffff:169.254.169.254]:80",
        "[::ffff:a9fe:a9fe]:80",
        "[0:0:0:0:0:ffff:a9fe:a9fe]:80",
        "169.254.169.254%00:80",
    ];
    lab.refuses(&spellings, &["400", "503"]);
    lab.reaches(origin::echo());
}

/// What a policy keeps back stays back; what nests in itself ends with the client.
#[test]
fn c19_the_proxy_itself() {
    let echo = origin::echo();
    let lab = Lab::new("");
    // Without a policy the proxy may be its own target, once for each time the client asks.
    let mut client = lab.ask(&format!("127.0.0.1:{}", lab.port));
    for depth in 0..20 {
        assert!(client.head().starts_with("HTTP/1.1 200 "), "{depth}");
        let next = if depth == 19 { echo } else { lab.port };
        client.send(format!("CONNECT 127.0.0.1:{next} HTTP/1.1\r\n\r\n"));
    }
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client.send("deep");
    client.expect("deep");
    client.rst();
    lab.adit.wait_stat("http.h.downstream_cx_active", 0);
    lab.adit.wait_stat("cluster.dst.upstream_cx_active", 0);

    let lab = Lab::with("ALLOW", &format!("127\\.0\\.0\\.1:{echo}"));
    let (admin, own) = (format!("127.0.0.1:{}", lab.adit.admin), format!("127.0.0.1:{}", lab.port));
    lab.refuses(&[&admin, &own], &["403"]);
    lab.reaches(echo);
}

/// A TCP proxy that is its own upstream makes a connection for each connection: the circuit breaker ends it.
#[test]
fn c19_a_loop_over_the_network_ends_at_the_circuit_breaker() {
    let (port, fine, echo) = (free_port(), free_port(), origin::echo());
    let most = "circuit_breakers: { thresholds: [{ max_connections: 50 }] }\n";
    let adit = Proxy::adit(&resources(
        &[listener("loop", port, &tcp_proxy("loop", "")), listener("fine", fine, &tcp_proxy("fine", ""))],
        &[cluster("loop", port, most), cluster("fine", echo, "")],
    ));
    let (data, _) = Peer::connect(port).rest();
    assert!(data.is_empty());
    adit.wait_stat("cluster.loop.upstream_cx_active", 0);
    adit.wait_stat("cluster.loop.upstream_cx_total", 50);
    eventually("nothing is left", || adit.stat(&format!("listener.127.0.0.1_{port}.downstream_cx_active")) == 0);
    let mut neighbour = Peer::connect(fine);
    neighbour.send("x");
    neighbour.expect("x");
}

/// What a scanner learns of a closed port is that there was no connection: no address, no errno, no text of the system.
#[test]
fn c20_a_refusal_tells_no_more_than_envoys() {
    let lab = Lab::new("");
    let closed = free_port();
    let (answer, _) = lab.ask(&format!("127.0.0.1:{closed}")).rest();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    assert_eq!(
        body, "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        "{answer}"
    );
    assert!(!answer.contains(&closed.to_string()) && !answer.contains("os error"), "{answer}");
}

#[test]
fn c21_addresses_that_are_no_host() {
    let echo = origin::echo();
    let lab = Lab::new("");
    let any =
        [format!("0.0.0.0:{echo}"), format!("[::]:{echo}"), format!("0:{echo}"), format!("[::ffff:0.0.0.0]:{echo}")];
    let any: Vec<&str> = any.iter().map(String::as_str).collect();
    lab.refuses(&any, &["400", "503"]);
    lab.refuses(
        &["255.255.255.255:80", "224.0.0.1:80", "239.1.2.3:80", "[ff02::1]:80", "127.0.0.1:0"],
        &["400", "503"],
    );
    assert!(lab.adit.stat("cluster.dst.original_dst_host_invalid") >= 6);
    lab.reaches(echo);
}

/// An IPv6 address that some network translates to IPv4 is one that a list of what is allowed does not have.
#[test]
fn c22_addresses_within_addresses() {
    let echo = origin::echo();
    let lab = Lab::with("ALLOW", r"127\.0\.0\.1:[0-9]+");
    let within = [
        "[64:ff9b::a9fe:a9fe]:80",
        "[64:ff9b::169.254.169.254]:80",
        "[64:ff9b:1::a9fe:a9fe]:80",
        "[2002:a9fe:a9fe::1]:80",
        "[2001:0:a9fe:a9fe::1]:80",
        "[::a9fe:a9fe]:80",
        "[::169.254.169.254]:80",
        "[fe80::5efe:a9fe:a9fe]:80",
    ];
    lab.refuses(&within, &["400", "403"]);
    lab.refuses(&METADATA, &["403"]);
    lab.reaches(echo);
}
