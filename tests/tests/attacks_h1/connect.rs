//! CONNECT: the client attacks, the upstream attacks.

use std::time::Duration;

use adit_tests::peer::{End, Peer};

use crate::lab::{Lab, ROUTES, SMUGGLED};

const CONNECT: &str = "CONNECT h.example:443 HTTP/1.1\r\nhost: h.example:443\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 200 OK\r\n\r\n";

const TERMINATE: &str = "\
- match: { connect_matcher: {} }
  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- match: { prefix: / }
  route: { cluster: c }
";

#[test]
fn c01_c02_connect_has_no_body() {
    for routes in [ROUTES, TERMINATE] {
        let lab = Lab::with(ACCEPT, routes, "");
        lab.refused(format!("CONNECT h:1 HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello{SMUGGLED}"), "400");
        lab.refused(format!("CONNECT h:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"), "501");
        lab.refused(
            format!(
                "CONNECT h:1 HTTP/1.1\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            "400",
        );
        lab.unharmed();
    }
}

#[test]
fn c03_early_data_waits_for_the_answer_and_dies_with_a_refusal() {
    let lab = Lab::new("");
    let mut client = Peer::connect(lab.port);
    client.send(format!("{CONNECT}{SMUGGLED}"));
    adit_tests::eventually("the head arrives", || {
        lab.records().iter().any(|record| record.text().ends_with("\r\n\r\n"))
    });
    client.silent(Duration::from_millis(300));
    assert_eq!(lab.record().parts().1, "");
    // A FIN might be a half-close; a reset is noticed, early data or not.
    client.rst();
    lab.origin_closed();
    lab.unharmed();

    let lab = Lab::new(ACCEPT);
    assert_eq!(lab.attack(format!("{CONNECT}early")).status(), "200");
    lab.payload("early");
    lab.unharmed();

    for answer in ["403 Forbidden", "407 Proxy Authentication Required", "503 Service Unavailable"] {
        let lab = Lab::new(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n"));
        let seen = lab.attack(format!("{CONNECT}{SMUGGLED}"));
        assert_eq!((seen.status(), seen.end.is_some()), (&answer[..3], true), "{seen:?}");
        assert!(seen.head().contains("connection: close\r\n"), "{seen:?}");
        lab.origin_closed();
        assert_eq!(lab.record().parts().1, "");
        lab.unharmed();
    }
}

#[test]
fn c03_early_data_may_be_refused() {
    let router = "http_filters:\n- name: router\n  typed_config:\n    \
                  \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n    \
                  reject_connect_request_early_data: true\n";
    let port = adit_tests::free_port();
    let upstream = adit_tests::origin::echo();
    let filter = adit_tests::config::hcm("h", TERMINATE, "");
    let at = filter.find("          http_filters:").unwrap();
    let filter =
        format!("{}{}", &filter[..at], router.lines().map(|line| format!("          {line}\n")).collect::<String>());
    let _adit = adit_tests::Proxy::adit(&adit_tests::config::resources(
        &[adit_tests::config::listener("l", port, &filter)],
        &[adit_tests::config::cluster("c", upstream, "")],
    ));
    let mut client = Peer::connect(port);
    client.send(format!("{CONNECT}{SMUGGLED}"));
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    let mut client = Peer::connect(port);
    client.send(CONNECT);
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client.send("later");
    client.expect("later");
}

#[test]
fn c04_nothing_follows_a_407() {
    let lab = Lab::new(
        "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 4\r\n\r\nwho?",
    );
    let mut client = Peer::connect(lab.port);
    client.send(CONNECT);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 407 ") && head.contains("connection: close\r\n"), "{head}");
    client.expect("who?");
    let second = CONNECT.replace("\r\n\r\n", "\r\nproxy-authorization: Basic eDp5\r\n\r\n");
    let _ = std::io::Write::write_all(&mut client.0, second.as_bytes());
    let seen = lab.collect(&mut client);
    assert!(seen.text.is_empty() && seen.end.is_some(), "{seen:?}");
    lab.origin_closed();
    assert!(!lab.record().text().contains("proxy-authorization"));
    lab.unharmed();
}

#[test]
fn c05_c07_any_2xx_opens_a_tunnel_whatever_its_framing() {
    for status in ["200 OK", "202 Accepted", "204 No Content", "206 Partial Content"] {
        for fields in [
            "",
            "content-length: 5\r\n",
            "transfer-encoding: chunked\r\n",
            "content-length: x\r\ntransfer-encoding: gzip\r\n",
        ] {
            let lab = Lab::new(format!("HTTP/1.1 {status}\r\n{fields}\r\n0\r\n\r\ndown"));
            let seen = lab.attack_until(format!("{CONNECT}up"), |text| text.ends_with("down"));
            assert_eq!(seen.status(), &status[..3], "{status} {fields}: {seen:?}");
            let head = seen.head();
            assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
            assert!(seen.text.ends_with("\r\n\r\n0\r\n\r\ndown") && seen.end.is_none(), "{status} {fields}: {seen:?}");
            lab.payload("up");
            lab.unharmed();
        }
    }
}

#[test]
fn c06_interim_answers_before_the_2xx() {
    let lab = Lab::new(format!("{}{ACCEPT}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50)));
    let seen =
        lab.attack_until(format!("{CONNECT}up"), |text| text.contains(" 200 OK\r\n") && text.ends_with("\r\n\r\n"));
    assert!(seen.text.contains("HTTP/1.1 200 OK\r\n"), "{seen:?}");
    lab.payload("up");
    lab.unharmed();
}

#[test]
fn c08_a_redirect_is_an_answer() {
    let lab = Lab::new("HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 4\r\n\r\ngo!\n");
    let seen = lab.attack(format!("{CONNECT}{SMUGGLED}"));
    assert_eq!((seen.status(), seen.end), ("302", Some(End::Fin)), "{seen:?}");
    assert!(seen.head().contains("location: http://elsewhere/\r\n") && seen.text.ends_with("go!\n"), "{seen:?}");
    lab.origin_closed();
    assert_eq!(lab.record().parts().1, "");
    lab.unharmed();
}

#[test]
fn c09_targets() {
    let label = format!("{}:80", "a".repeat(300));
    for routes in [ROUTES, TERMINATE] {
        let lab = Lab::with(ACCEPT, routes, "");
        for target in [
            "h",
            "h:",
            "h:0",
            "h:65536",
            "h:99999999999",
            "h:+443",
            "h:-1",
            "h:0x1bb",
            "h:4 43",
            "u@h:1",
            "u:p@h:1",
            "h:1/",
            "h:1?x",
            "h:1#x",
            "/path",
            "*",
            ":80",
            "http://h:1/",
            "[fe80::1%eth0]:80",
            "[fe80::1%25eth0]:80",
            "[::1:80",
            "::1:80",
            "[::1]80",
            "2130706433:80",
            "0x7f000001:80",
            "0177.0.0.1:80",
            "127.1:80",
            "b\u{fc}cher:80",
            "ex%61mple:80",
            "a\0b:80",
            "a..b:1",
            ".:80",
            "-:a",
            "",
            &label,
        ] {
            lab.refused(format!("CONNECT {target} HTTP/1.1\r\nhost: h\r\n\r\n{SMUGGLED}"), "400");
        }
        lab.unharmed();
    }
    for target in
        ["h:1", "h.example.:443", "127.0.0.1:65535", "[::1]:80", "[::ffff:127.0.0.1]:80", "xn--bcher-kva.example:443"]
    {
        let lab = Lab::new(ACCEPT);
        let seen = lab.attack(format!("CONNECT {target} HTTP/1.1\r\n\r\n"));
        assert_eq!(seen.status(), "200", "{target}: {seen:?}");
        assert!(
            lab.record().text().starts_with(&format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n")),
            "{target}"
        );
        lab.unharmed();
    }
}

#[test]
fn c10_c11_the_target_counts_and_two_hosts_do_not() {
    let lab = Lab::new(ACCEPT);
    let seen = lab.attack("CONNECT real.example:443 HTTP/1.1\r\nhost: other.example\r\n\r\n");
    assert_eq!(seen.status(), "200");
    let (head, _) = lab.record().parts();
    assert!(head.contains("host: real.example:443\r\n") && !head.contains("other.example"), "{head}");
    lab.unharmed();
    let lab = Lab::new(ACCEPT);
    lab.refused("CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\nhost: h:443\r\n\r\n", "400");
    lab.refused("CONNECT h:443 HTTP/1.0\r\n\r\n", "426");
    lab.unharmed();
}

/// No tunnel without leave, whatever is behind the head.
#[test]
fn c09_connect_is_off_by_default() {
    let lab = Lab::with(ACCEPT, "- match: { prefix: / }\n  route: { cluster: c }\n", "");
    lab.refused(format!("{CONNECT}{SMUGGLED}"), "404");
    lab.unharmed();
}

/// Filters that look at paths see a request without one.
#[test]
fn c23_a_request_without_a_path_in_every_filter() {
    let http = "type.googleapis.com/envoy.extensions.filters.http";
    let bodies = [
        ("buffer", format!("{{ \"@type\": {http}.buffer.v3.Buffer, max_request_bytes: 1024 }}")),
        (
            "header_mutation",
            format!(
                "{{ \"@type\": {http}.header_mutation.v3.HeaderMutation, mutations: {{ request_mutations: [{{ append: {{ header: {{ key: x-path, value: 'p%REQ(:PATH)%%PATH%' }} }} }}] }} }}"
            ),
        ),
        (
            "set_filter_state",
            format!(
                "{{ \"@type\": {http}.set_filter_state.v3.Config, on_request_headers: [{{ object_key: k, factory_key: envoy.string, format_string: {{ text_format_source: {{ inline_string: '%REQ(:PATH)%' }} }} }}] }}"
            ),
        ),
        (
            "rbac",
            format!(
                "{{ \"@type\": {http}.rbac.v3.RBAC, rules: {{ action: DENY, policies: {{ p: {{ permissions: [{{ url_path: {{ path: {{ prefix: /admin }} }} }}], principals: [{{ url_path: {{ path: {{ prefix: / }} }} }}] }} }} }} }}"
            ),
        ),
        (
            "local_ratelimit",
            format!(
                "{{ \"@type\": {http}.local_ratelimit.v3.LocalRateLimit, stat_prefix: r, token_bucket: {{ max_tokens: 1000, fill_interval: 1s }}, filter_enabled: {{ default_value: {{ numerator: 100 }} }}, filter_enforced: {{ default_value: {{ numerator: 100 }} }} }}"
            ),
        ),
        ("cors", format!("{{ \"@type\": {http}.cors.v3.Cors }}")),
        (
            "fault",
            format!(
                "{{ \"@type\": {http}.fault.v3.HTTPFault, headers: [{{ name: ':path', string_match: {{ prefix: /x }} }}], abort: {{ http_status: 503, percentage: {{ numerator: 100 }} }} }}"
            ),
        ),
    ];
    for (name, body) in bodies {
        let port = adit_tests::free_port();
        let upstream = adit_tests::origin::echo();
        let filter = adit_tests::config::hcm("h", TERMINATE, "").replace(
            "          http_filters:\n",
            &format!("          http_filters:\n          - name: {name}\n            typed_config: {body}\n"),
        );
        let adit = adit_tests::Proxy::adit(&adit_tests::config::resources(
            &[adit_tests::config::listener("l", port, &filter)],
            &[adit_tests::config::cluster("c", upstream, "")],
        ));
        let mut client = Peer::connect(port);
        client.send(CONNECT.replace("\r\n\r\n", "\r\norigin: http://x\r\n\r\n"));
        if name == "buffer" {
            // It waits for a whole body, which a tunnel has not: bounded by its limit and by the client's end.
            client.silent(Duration::from_millis(100));
        } else {
            assert!(client.head().starts_with("HTTP/1.1 200 "), "{name}");
            client.send("payload");
            client.expect("payload");
        }
        drop(client);
        adit.wait_stat("http.h.downstream_rq_active", 0);
    }
}
