//! The files in `configs/`, beside each other and beside Envoy.

use adit_tests::{Proxy, free_port};

use crate::{Client, echo};

/// One of the files in `configs/`, on other ports, without its admin section.
fn own(name: &str, ports: &[(u16, u16)]) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (before, rest) = text.split_once("admin:\n").unwrap();
    let (_, rest) = rest.split_once("static_resources:").unwrap();
    let mut text = format!("{before}static_resources:{rest}");
    for (from, to) in ports {
        text = text.replace(&format!("port_value: {from}"), &format!("port_value: {to}"));
    }
    text
}

#[test]
fn the_example_configurations_work_together() {
    for version in ["http1", "http2"] {
        let (near, far, middle) = (free_port(), free_port(), free_port());
        let terminator = own(&format!("terminate_connect_udp_{version}.yaml"), &[(10001, far), (10002, echo())]);
        let forwarder = own(&format!("proxy_connect_udp_{version}.yaml"), &[(10001, far), (10003, middle)]);
        let raw = |to| own(&format!("raw_udp_tunneling_{version}.yaml"), &[(10000, near), (10001, to)]);
        let far_proxy = Proxy::adit(&terminator);
        let _forwarder = Proxy::adit(&forwarder);
        for to in [far, middle] {
            let _near = Proxy::adit(&raw(to));
            let client = Client::connect(near);
            for text in ["one", "two", "three"] {
                client.send(text);
                client.expect(&format!("echo:{text}"));
            }
        }
        far_proxy.wait_stat("cluster.service.udp.sess_tx_datagrams", 6);
    }
}

/// Beside Envoy in each role. Over HTTP/1 Envoy cannot terminate: it answers 200.
#[cfg(feature = "e2e")]
#[test]
fn the_example_configurations_work_with_envoy() {
    for (version, near_is_envoy) in [("http1", true), ("http2", true), ("http2", false)] {
        let (near, far) = (free_port(), free_port());
        let terminator = own(&format!("terminate_connect_udp_{version}.yaml"), &[(10001, far), (10002, echo())]);
        let raw = own(&format!("raw_udp_tunneling_{version}.yaml"), &[(10000, near), (10001, far)]);
        let start = |envoy: bool, yaml: &str| if envoy { Proxy::envoy(yaml) } else { Proxy::adit(yaml) };
        let _far = start(!near_is_envoy, &terminator);
        let _near = start(near_is_envoy, &raw);
        let client = Client::connect(near);
        for text in ["one", "two", ""] {
            client.send(text);
            client.expect(&format!("echo:{text}"));
        }
    }
}
