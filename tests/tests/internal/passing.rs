//! Metadata, filter state and addresses across hops.

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, tcp_proxy, terminate};
use adit_tests::peer::{End, Peer};
use adit_tests::{free_port, origin};

use crate::build::{adit, hop, inner, internal_upstream, log, set_state, wait_log, whole};

const KINDS: &str = "[{ kind: { host: {} }, name: tunnel }, { kind: { cluster: {} }, name: place }]";

/// Endpoints of one listener, each with an `endpoint_id` and metadata that names a target.
fn endpoints(name: &str, listener: &str, ids: &[&str], more: &str) -> String {
    let mut text = format!(
        "  - name: {name}\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n"
    );
    for id in ids {
        text.push_str(&format!(
            "        - endpoint: {{ address: {{ envoy_internal_address: {{ server_listener_name: {listener}, endpoint_id: {id} }} }} }}\n          \
             metadata: {{ filter_metadata: {{ tunnel: {{ address: \"{id}.example:443\", nested: {{ port: 443 }} }} }} }}\n"
        ));
    }
    for line in more.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// Echoes `through` a connection that the other end closes.
fn once(port: u16) {
    let mut client = Peer::connect(port);
    client.send("through");
    client.expect("through");
    client.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
}

#[test]
fn metadata_of_host_and_cluster_names_the_tunnel_and_endpoints_share_a_listener() {
    let (front, far) = (free_port(), free_port());
    let terminator = hcm("far", &terminate("echo"), &log("far %REQ(:AUTHORITY)%"));
    let far_proxy = adit(&adit_tests::config::resources(
        &[listener("far", far, &terminator)],
        &[cluster("echo", origin::echo(), "")],
    ));
    let more = format!("metadata: {{ filter_metadata: {{ place: {{ name: here }} }} }}\n{}", internal_upstream(KINDS));
    let line = "in %DYNAMIC_METADATA(tunnel:address)% %DYNAMIC_METADATA(tunnel:nested:port)% %DYNAMIC_METADATA(place:name)% \
                %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS%";
    let tunnel = format!("tunneling_config: {{ hostname: '%DYNAMIC_METADATA(tunnel:address)%' }}\n{}", log(line));
    let outer = tcp_proxy(
        "hop",
        &log("out %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_REMOTE_ADDRESS% %RESPONSE_FLAGS%"),
    );
    let near = adit(&whole(
        &[listener("outer", front, &outer), inner("encap", &tcp_proxy("far", &tunnel))],
        &[endpoints("hop", "encap", &["a", "b"], &more), cluster("far", far, HTTP2)],
    ));
    for _ in 0..4 {
        once(front);
    }
    for id in ["a", "b"] {
        wait_log(&far_proxy, &format!("far {id}.example:443"));
        wait_log(&near, &format!("in {id}.example:443 443 here envoy://internal_client_address/ envoy://encap/{id}"));
        wait_log(&near, &format!("out envoy://encap/{id} envoy://internal_client_address/ envoy://encap/{id} -"));
    }
    assert_eq!(near.stat("cluster.hop.internal_upstream.no_metadata"), 0);
    near.wait_stat("listener.envoy_internal_encap.downstream_cx_total", 4);
    near.wait_stat("listener.envoy_internal_encap.downstream_cx_active", 0);
    let text = near.admin("/clusters");
    assert!(text.contains("hop::envoy://encap/a::cx_total::2\n"), "{text}");
    assert!(text.contains("hop::envoy://encap/b::cx_total::2\n"), "{text}");
    let text = near.admin("/listeners");
    assert!(text.contains("encap::envoy://encap/\n"), "{text}");
}

#[test]
fn absent_metadata_is_counted_and_the_connection_goes_on() {
    let front = free_port();
    let near = adit(&whole(
        &[
            listener("outer", front, &tcp_proxy("hop", "")),
            inner("inner", &tcp_proxy("echo", &log("in %DYNAMIC_METADATA(tunnel:address)%"))),
        ],
        &[hop("hop", "inner", &internal_upstream(KINDS)), cluster("echo", origin::echo(), "")],
    ));
    once(front);
    wait_log(&near, "in -");
    near.wait_stat("cluster.hop.internal_upstream.no_metadata", 2);
}

const STATE: &[(&str, &str, &str)] = &[
    ("test.none", "none", "NONE"),
    ("test.once", "once of %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "ONCE"),
    ("test.transitive", "transitive", "TRANSITIVE"),
];

fn state_log(name: &str) -> String {
    let values = ["none", "once", "transitive"].map(|key| format!("%FILTER_STATE(test.{key}:PLAIN)%")).join("|");
    log(&format!("{name} {values}"))
}

#[test]
fn filter_state_travels_as_far_as_it_is_shared() {
    let front = free_port();
    let outer = format!("{}{}", set_state(STATE), tcp_proxy("to_a", &state_log("outer")));
    let pass = internal_upstream("[]");
    let near = adit(&whole(
        &[
            listener("outer", front, &outer),
            inner("a", &tcp_proxy("to_b", &state_log("a"))),
            inner("b", &tcp_proxy("to_c", &state_log("b"))),
            inner("c", &tcp_proxy("to_d", &state_log("c"))),
            inner("d", &tcp_proxy("echo", &state_log("d"))),
        ],
        &[
            hop("to_a", "a", &pass),
            hop("to_b", "b", &pass),
            hop("to_c", "c", &pass),
            hop("to_d", "d", ""),
            cluster("echo", origin::echo(), ""),
        ],
    ));
    once(front);
    wait_log(&near, "outer none|once of 127.0.0.1|transitive");
    wait_log(&near, "a -|once of 127.0.0.1|transitive");
    wait_log(&near, "b -|-|transitive");
    wait_log(&near, "c -|-|transitive");
    // Without internal_upstream nothing is passed.
    wait_log(&near, "d -|-|-");
}

/// A pooled connection may carry what one client passed to nobody else, whatever passed it.
#[test]
fn a_pooled_connection_never_carries_another_clients_state() {
    for version in ["", HTTP2] {
        let front = free_port();
        let state = set_state(&[("test.client", "%DOWNSTREAM_REMOTE_ADDRESS%", "TRANSITIVE")]);
        let outer = format!("{state}{}", hcm("outer", &prefix("to_a"), ""));
        let answer = "- match: { prefix: / }\n  direct_response: { status: 200 }\n  response_headers_to_add:\n  \
                      - header: { key: x-client, value: '%FILTER_STATE(test.client:PLAIN)%' }\n";
        let more = format!("{version}{}", internal_upstream("[]"));
        let adit = adit(&whole(
            &[
                listener("outer", front, &outer),
                inner("a", &hcm("a", &prefix("to_b"), "")),
                inner("b", &hcm("b", answer, "")),
            ],
            &[hop("to_a", "a", &more), hop("to_b", "b", &more)],
        ));
        let mut clients: Vec<Peer> = (0..5).map(|_| Peer::connect(front)).collect();
        for _ in 0..3 {
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                let head = client.head();
                let own = client.0.local_addr().unwrap();
                assert!(head.contains(&format!("x-client: {own}\r\n")), "{own} got {head}");
            }
        }
        // A client's own requests share a connection.
        adit.wait_stat("cluster.to_a.upstream_cx_total", 5);
        adit.wait_stat("cluster.to_b.upstream_cx_total", 5);
    }
}

/// Equal state is one pool.
#[test]
fn clients_with_equal_state_share_connections() {
    let front = free_port();
    let state = set_state(&[("test.client", "all", "ONCE")]);
    let outer = format!("{state}{}", hcm("outer", &prefix("hop"), ""));
    let answer = "- match: { prefix: / }\n  direct_response: { status: 200 }\n";
    let adit = adit(&whole(
        &[listener("outer", front, &outer), inner("inner", &hcm("inner", answer, ""))],
        &[hop("hop", "inner", &internal_upstream("[]"))],
    ));
    for _ in 0..5 {
        let mut client = Peer::connect(front);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    }
    adit.wait_stat("cluster.hop.upstream_cx_total", 1);
}

#[test]
fn the_clients_address_reaches_the_inner_listener_by_the_proxy_protocol() {
    let front = free_port();
    let proxy = "transport_socket:\n  name: proxy\n  typed_config:\n    \"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport\n    \
                 config: { version: V2 }\n    transport_socket: { name: raw, typed_config: { \"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer } }\n";
    let filter = "    listener_filters:\n    - name: proxy\n      typed_config:\n        \"@type\": \
                  type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol\n";
    let listener_inner = inner(
        "inner",
        &tcp_proxy(
            "echo",
            &log("in %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
        ),
    );
    let near = adit(&whole(
        &[listener("outer", front, &tcp_proxy("hop", "")), format!("{listener_inner}{filter}")],
        &[hop("hop", "inner", proxy), cluster("echo", origin::echo(), "")],
    ));
    let mut client = Peer::connect(front);
    client.send("through");
    client.expect("through");
    let own = client.0.local_addr().unwrap();
    drop(client);
    wait_log(&near, &format!("in {own} 127.0.0.1:{front} envoy://internal_client_address/"));
}

#[test]
fn kinds_that_cannot_be_passed_are_refused_at_load() {
    for (kind, why) in
        [("request", "metadata type is not supported: request"), ("route", "metadata type is not supported: route")]
    {
        let more = internal_upstream(&format!("[{{ kind: {{ {kind}: {{}} }}, name: key }}]"));
        let yaml = whole(&[inner("inner", &tcp_proxy("hop", ""))], &[hop("hop", "inner", &more)]);
        let text = crate::config::refused(&yaml);
        assert!(text.contains(why), "{text}");
    }
    let bare = "transport_socket:\n  name: i\n  typed_config:\n    \"@type\": \
                type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport\n";
    let yaml = whole(&[inner("inner", &tcp_proxy("hop", ""))], &[hop("hop", "inner", bare)]);
    let text = crate::config::refused(&yaml);
    assert!(text.contains("transport_socket") && text.contains("value is required"), "{text}");
}
