//! What a refusal inside becomes outside, and how loops end.

use std::io::Write as _;
use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, tcp_proxy, terminate};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin};

use crate::build::{adit, hop, inner, log, set_state, wait_log, whole};

const HTTP_LINE: &str =
    "outer %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON%";
const TCP_LINE: &str = "outer %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
const TUNNEL: &str = "tunneling_config: { hostname: 'host.com:443' }\n";
const RESET: &str = "upstream_reset_before_response_started{remote_connection_failure";

/// What the inner listener's tunnel meets.
enum Far {
    /// This answer.
    Answers(&'static str),
    /// A closed port.
    Nothing,
}

impl Far {
    fn port(&self) -> u16 {
        match self {
            Self::Answers(answer) => origin::http(answer).0,
            Self::Nothing => free_port(),
        }
    }
}

const FORBIDDEN: Far = Far::Answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
const REDIRECT: Far = Far::Answers("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n");

/// An outer listener with `outer`, then `hops` internal ones, the last of which opens a tunnel to `far`. `more` are fields of
/// the first hop's cluster.
fn chain(front: u16, outer: &str, more: &str, hops: usize, last: &str, far: &Far) -> Proxy {
    let mut listeners = vec![listener("outer", front, outer)];
    let mut clusters = vec![hop("hop0", "in0", more)];
    for i in 0..hops {
        let end = i + 1 == hops;
        let filter = if end { last.to_owned() } else { tcp_proxy(&format!("hop{}", i + 1), "") };
        listeners.push(inner(&format!("in{i}"), &filter));
        if !end {
            clusters.push(hop(&format!("hop{}", i + 1), &format!("in{}", i + 1), ""));
        }
    }
    clusters.push(cluster("far", far.port(), ""));
    adit(&whole(&listeners, &clusters))
}

#[track_caller]
fn get(front: u16) -> String {
    let mut client = Peer::connect(front);
    client.send(GET);
    client.head()
}

#[test]
fn a_refusal_inside_is_the_answer_to_a_request_outside() {
    for (far, status, inside) in [
        (FORBIDDEN, "403 Forbidden", "tunnel_response:403"),
        (REDIRECT, "502 Bad Gateway", "tunnel_response:302"),
        (Far::Nothing, "503 Service Unavailable", "delayed_connect_error:_Connection_refused"),
    ] {
        for hops in [1, 3] {
            for more in ["", HTTP2] {
                let front = free_port();
                let outer = hcm("outer", &prefix("hop0"), &log(HTTP_LINE));
                let adit = chain(front, &outer, more, hops, &tcp_proxy("far", TUNNEL), &far);
                for _ in 0..2 {
                    let head = get(front);
                    assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
                }
                let code = &status[..3];
                let detail = inside.replace(' ', "_");
                wait_log(&adit, &format!("outer {code} UF {RESET}|{detail}}} {inside}"));
                adit.wait_stat("cluster.hop0.upstream_cx_active", 0);
            }
        }
    }
}

/// A filter chain that does not decide at once: the request is on its way when the refusal comes.
#[test]
fn a_refusal_behind_listener_filters_and_network_filters_is_passed_on_too() {
    let filters = "    listener_filters:\n    - name: http\n      typed_config:\n        \"@type\": \
                   type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector\n";
    let state = set_state(&[("k", "v", "NONE")]);
    for (chain, inspect) in [(tcp_proxy("far", TUNNEL), filters), (format!("{state}{}", tcp_proxy("far", TUNNEL)), "")]
    {
        let front = free_port();
        let outer = hcm("outer", &prefix("hop"), &log(HTTP_LINE));
        let adit = adit(&whole(
            &[listener("outer", front, &outer), format!("{}{inspect}", inner("in", &chain))],
            &[hop("hop", "in", ""), cluster("far", FORBIDDEN.port(), "")],
        ));
        assert!(get(front).starts_with("HTTP/1.1 403 Forbidden\r\n"));
        wait_log(&adit, &format!("outer 403 UF {RESET}|tunnel_response:403}} tunnel_response:403"));
    }
}

#[test]
fn a_refusal_inside_is_the_answer_to_a_connect_that_is_terminated() {
    for (far, status) in [(FORBIDDEN, "403 Forbidden"), (Far::Nothing, "503 Service Unavailable")] {
        for hops in [1, 3] {
            let front = free_port();
            let outer = hcm("outer", &terminate("hop0"), &log(HTTP_LINE));
            let _adit = chain(front, &outer, "", hops, &tcp_proxy("far", TUNNEL), &far);
            let mut client = Peer::connect(front);
            client.send(CONNECT);
            let head = client.head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        }
    }
}

#[test]
fn a_refusal_inside_is_in_the_log_of_a_tcp_connection_outside() {
    for (far, inside) in
        [(FORBIDDEN, "tunnel_response:403"), (Far::Nothing, "delayed_connect_error:_Connection_refused")]
    {
        for (hops, tunnel) in [(1, ""), (3, ""), (1, TUNNEL), (3, TUNNEL)] {
            let front = free_port();
            let outer = tcp_proxy("hop0", &format!("{tunnel}{}", log(TCP_LINE)));
            let adit = chain(front, &outer, "", hops, &tcp_proxy("far", TUNNEL), &far);
            let mut client = Peer::connect(front);
            assert!(client.rest().0.is_empty());
            wait_log(&adit, &format!("outer UF,URX {inside}"));
            adit.wait_stat("cluster.hop0.upstream_cx_active", 0);
            adit.wait_stat("tcp.far.downstream_cx_total", 1);
        }
    }
}

#[test]
fn no_host_inside_is_no_host_outside() {
    let front = free_port();
    let outer = hcm("outer", &prefix("hop"), &log(HTTP_LINE));
    let adit = adit(&whole(
        &[listener("outer", front, &outer), inner("in", &tcp_proxy("far", TUNNEL))],
        &[hop("hop", "in", ""), "  - name: far\n".into()],
    ));
    assert!(get(front).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    wait_log(&adit, "outer 503 UH no_healthy_upstream -");
}

#[test]
fn a_missing_listener_is_a_clean_failure() {
    let (http, tcp, connect) = (free_port(), free_port(), free_port());
    let adit = adit(&whole(
        &[
            listener("http", http, &hcm("outer", &prefix("hop"), &log(HTTP_LINE))),
            listener("tcp", tcp, &tcp_proxy("hop", &log(TCP_LINE))),
            listener("connect", connect, &hcm("connect", &terminate("hop"), "")),
        ],
        &[hop("hop", "missing", "")],
    ));
    assert!(adit.log().contains("there is no internal listener 'missing'"), "{}", adit.log());
    assert!(get(http).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    wait_log(
        &adit,
        &format!("outer 503 UF {RESET}|no_internal_listener_named_missing}} no_internal_listener_named_missing"),
    );
    assert!(Peer::connect(tcp).rest().0.is_empty());
    wait_log(&adit, "outer UF,URX no_internal_listener_named_missing");
    let mut client = Peer::connect(connect);
    client.send(CONNECT);
    assert!(client.head().starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    adit.wait_stat("cluster.hop.upstream_cx_connect_fail", 3);
}

/// Without the bootstrap extension the endpoint loads, with a warning, and fails when it is used.
#[test]
fn an_endpoint_without_the_extension_fails_when_it_is_used() {
    let front = free_port();
    let yaml = adit_tests::config::resources(
        &[listener("tcp", front, &tcp_proxy("hop", &log(TCP_LINE)))],
        &[hop("hop", "missing", "")],
    );
    let adit = adit(&yaml);
    assert!(Peer::connect(front).rest().0.is_empty());
    wait_log(&adit, "outer UF,URX no_internal_listener_named_missing");
}

const LOOP: &str = "internal_listener_self_not_entered:_16_internal_listeners_crossed_already_(a_loop?)";

#[test]
fn a_loop_of_tcp_proxies_ends_at_once() {
    for attempts in ["", "max_connect_attempts: 5\n"] {
        let front = free_port();
        let adit = adit(&whole(
            &[
                listener("outer", front, &tcp_proxy("hop", &format!("{attempts}{}", log(TCP_LINE)))),
                inner("self", &tcp_proxy("hop", attempts)),
            ],
            &[hop("hop", "self", "")],
        ));
        assert!(Peer::connect(front).rest().0.is_empty());
        wait_log(&adit, &format!("outer UF {LOOP}"));
        adit.wait_stat("listener.envoy_internal_self.downstream_cx_total", 16);
        assert_eq!(adit.stat("cluster.hop.upstream_cx_overflow"), 0);
        adit.wait_stat("listener.envoy_internal_self.downstream_cx_active", 0);
        adit.wait_stat("cluster.hop.upstream_cx_active", 0);
    }
}

#[test]
fn a_loop_of_tunnels_ends_at_once() {
    let front = free_port();
    let adit = adit(&whole(
        &[
            listener("outer", front, &tcp_proxy("hop", &format!("max_connect_attempts: 3\n{TUNNEL}{}", log(TCP_LINE)))),
            inner("self", &tcp_proxy("hop", &format!("max_connect_attempts: 3\n{TUNNEL}"))),
        ],
        &[hop("hop", "self", HTTP2)],
    ));
    assert!(Peer::connect(front).rest().0.is_empty());
    wait_log(&adit, &format!("outer UF {LOOP}"));
    adit.wait_stat("listener.envoy_internal_self.downstream_cx_total", 16);
}

/// A loop through connection managers, which would try again at each hop.
#[test]
fn a_loop_of_connection_managers_ends_at_once() {
    for more in ["", HTTP2] {
        let front = free_port();
        let route = "- match: { prefix: / }\n  route: { cluster: hop, retry_policy: { retry_on: '5xx,connect-failure', num_retries: 3 } }\n";
        let adit = adit(&whole(
            &[
                listener("outer", front, &hcm("outer", route, "")),
                inner(
                    "self",
                    &hcm(
                        "self",
                        route,
                        &log("in %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%"),
                    ),
                ),
            ],
            &[hop("hop", "self", more)],
        ));
        assert!(get(front).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        wait_log(&adit, &format!("in 503 UF {LOOP}"));
        adit.wait_stat("listener.envoy_internal_self.downstream_cx_total", 16);
        adit.wait_stat("http.self.downstream_rq_total", 16);
        assert_eq!(adit.stat("cluster.hop.upstream_rq_retry"), 0);
    }
}

/// A client that leaves while the far proxy thinks takes all hops with it.
#[test]
fn a_client_that_leaves_before_the_decision_leaves_nothing() {
    let (silent, at) = origin::listen();
    let front = free_port();
    let adit = adit(&whole(
        &[
            listener("outer", front, &tcp_proxy("to_a", "")),
            inner("a", &tcp_proxy("to_b", "")),
            inner("b", &tcp_proxy("far", TUNNEL)),
        ],
        &[hop("to_a", "a", ""), hop("to_b", "b", ""), cluster("far", at, "")],
    ));
    let client = Peer::connect(front);
    let mut far = Peer::accept(&silent);
    assert!(far.head().starts_with("CONNECT host.com:443 "));
    client.rst();
    let _ = far.rest();
    for gauge in
        ["cluster.to_a.upstream_cx_active", "cluster.to_b.upstream_cx_active", "cluster.far.upstream_cx_active"]
    {
        adit.wait_stat(gauge, 0);
    }
    for name in ["a", "b"] {
        adit.wait_stat(&format!("listener.envoy_internal_{name}.downstream_cx_active"), 0);
    }
}

/// An answer that comes late is waited for, longer than the hop's own `connect_timeout`.
#[test]
fn connect_timeout_is_for_the_hop_and_not_for_what_lies_behind() {
    let (slow, at) = origin::listen();
    let front = free_port();
    let _adit = adit(&whole(
        &[listener("outer", front, &tcp_proxy("hop", "")), inner("in", &tcp_proxy("far", TUNNEL))],
        &[hop("hop", "in", "connect_timeout: 0.1s\n"), cluster("far", at, "")],
    ));
    let mut client = Peer::connect(front);
    let mut far = Peer::accept(&slow);
    far.head();
    client.send("early");
    std::thread::sleep(Duration::from_millis(400));
    far.0.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    far.expect("early");
    far.send("late");
    client.expect("late");
}

/// A listener that was told to take nothing more, here by `/drain_listeners`, while the way to it is still open.
#[test]
fn a_listener_that_takes_nothing_more_is_a_clean_failure() {
    let (raw, http) = (free_port(), free_port());
    let gone = format!("{}    traffic_direction: INBOUND\n", inner("in", &tcp_proxy("c", "")));
    let adit = adit(&whole(
        &[
            listener("raw", raw, &tcp_proxy("hop", &log(TCP_LINE))),
            listener("http", http, &hcm("outer", &prefix("hop"), "")),
            gone,
        ],
        &[hop("hop", "in", ""), cluster("c", origin::echo(), "")],
    ));
    let mut before = Peer::connect(raw);
    before.send("a");
    before.expect("a");
    adit.admin_post("/drain_listeners?inboundonly");
    assert!(Peer::connect(raw).rest().0.is_empty());
    wait_log(&adit, "outer UF,URX internal_listener_in_takes_no_connection_now");
    assert!(get(http).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    // What was accepted before lives on.
    before.send("b");
    before.expect("b");
}
