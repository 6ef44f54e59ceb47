//! The examples `configs/internal_*.yaml`, changed only in their ports.

use adit_tests::config::{example, hcm, listener, terminate};
use adit_tests::peer::{End, Peer};
use adit_tests::{free_port, origin};

use crate::build::{adit, hop, inner, log, wait_log, whole};

/// A proxy that terminates CONNECT at this port, and logs each.
fn terminator(port: u16, format: &str) -> adit_tests::Proxy {
    adit(&adit_tests::config::resources(
        &[listener("far", port, &hcm("far", &terminate("echo"), &log(format)))],
        &[adit_tests::config::cluster("echo", origin::echo(), "")],
    ))
}

/// Echoes through a connection; gives its address.
fn once(port: u16) -> String {
    let mut client = Peer::connect(port);
    client.send("through");
    client.expect("through");
    client.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
    client.0.local_addr().unwrap().to_string()
}

#[test]
fn internal_upstream_metadata() {
    let (front, far) = (free_port(), free_port());
    let undo = terminator(far, "far %REQ(:AUTHORITY)%");
    let _near = adit(&example("../internal_upstream_metadata.yaml", &[(10000, front), (10001, far)], 0));
    once(front);
    once(front);
    wait_log(&undo, "far a.example.com:8000");
    wait_log(&undo, "far b.example.com:8000");
}

#[test]
fn internal_filter_state() {
    let (front, far) = (free_port(), free_port());
    let undo = terminator(far, "far %REQ(:AUTHORITY)% %REQ(X-CLIENT)%");
    let _near = adit(&example("../internal_filter_state.yaml", &[(10000, front), (10001, far)], 0));
    for _ in 0..2 {
        let client = once(front);
        wait_log(&undo, &format!("far host.com:8000 {client}"));
    }
}

#[test]
fn internal_client_address() {
    let (front, at) = (free_port(), origin::echo());
    let near = adit(&example("../internal_client_address.yaml", &[(10000, front), (10001, at)], 0));
    once(front);
    near.wait_stat("inner.rbac.allowed", 1);
    assert_eq!(near.stat("inner.rbac.denied"), 0);
}

/// Who plays which part.
const CASTS: &[(&str, &str)] =
    if cfg!(feature = "e2e") { &[("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")] } else { &[("adit", "adit")] };

fn start(who: &str, yaml: &str) -> adit_tests::Proxy {
    if who == "adit" { adit(yaml) } else { adit_tests::Proxy::envoy_with(yaml, &["--file-flush-interval-msec", "20"]) }
}

/// A tunnel in a tunnel, undone by adit and by Envoy, made by adit and by Envoy.
#[test]
fn internal_connect_in_connect() {
    for &(near, far) in CASTS {
        connect_in_connect(near, far);
    }
}

fn connect_in_connect(near: &str, who: &str) {
    let (front, far) = (free_port(), free_port());
    let outer = hcm("outer", &terminate("in"), &log("outer %REQ(:AUTHORITY)%"));
    let undo = start(
        who,
        &whole(
            &[
                listener("far", far, &outer),
                inner("in", &hcm("inner", &terminate("echo"), &log("inner %REQ(:AUTHORITY)%"))),
            ],
            &[hop("in", "in", ""), adit_tests::config::cluster("echo", origin::echo(), "")],
        ),
    );
    let _near = start(near, &example("../internal_connect_in_connect.yaml", &[(10000, front), (10001, far)], 0));
    if who == "adit" && near == "adit" {
        once(front);
    } else {
        // Envoy's connection managers do not survive a half-close.
        let mut client = Peer::connect(front);
        client.send("through");
        client.expect("through");
    }
    wait_log(&undo, "outer outer.com:8000");
    wait_log(&undo, "inner inner.com:8000");
}
