//! What is refused at load, and what is warned of.

use std::process::Command;

use adit_tests::config::{cluster, listener, tcp_proxy};
use adit_tests::{free_port, process::adit_binary};

use crate::build::{hop, inner, whole, with_buffer};

/// What `--mode validate` says, and whether it accepts.
fn validate(yaml: &str) -> (String, bool) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("adit-internal-{}-{}.yaml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, yaml).unwrap();
    let out = Command::new(adit_binary()).args(["--mode", "validate", "-c"]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    (String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(), out.status.success())
}

/// The text with which a configuration is refused.
#[track_caller]
pub fn refused(yaml: &str) -> String {
    let (text, accepted) = validate(yaml);
    assert!(!accepted, "accepted:\n{yaml}\n{text}");
    text
}

fn chain() -> String {
    tcp_proxy("c", "")
}

#[test]
fn what_an_internal_listener_may_not_have() {
    for (line, why) in [
        ("enable_reuse_port: false", "has unsupported tcp listener feature"),
        ("enable_reuse_port: true", "has unsupported tcp listener feature"),
        ("freebind: true", "has unsupported tcp listener feature"),
        ("transparent: true", "has unsupported tcp listener feature"),
        ("tcp_backlog_size: 5", "has unsupported tcp listener feature"),
        ("tcp_fast_open_queue_length: 5", "has unsupported tcp listener feature"),
        ("enable_mptcp: true", "has unsupported tcp listener feature"),
        ("connection_balance_config: { exact_balance: {} }", "has unsupported tcp listener feature"),
        ("socket_options: [{ level: 1, name: 9, int_value: 1 }]", "does not support socket option"),
        (
            "address: { socket_address: { address: 127.0.0.1, port_value: 1 } }",
            "address should not be used when an internal listener config is provided",
        ),
    ] {
        let one = format!("{}    {line}\n", inner("inner", &chain()));
        let text = refused(&whole(&[one], &[cluster("c", 1, "")]));
        assert!(text.contains(why), "{line}: {text}");
    }
}

#[test]
fn the_extension_is_mandatory_and_its_size_has_a_range() {
    let listeners = [inner("inner", &chain())];
    let text = refused(&adit_tests::config::resources(&listeners, &[cluster("c", 1, "")]));
    assert!(text.contains("InternalListener bootstrap extension is mandatory"), "{text}");
    for (size, good) in [(0, false), (1, true), (1024, true), (8192, true), (8193, false)] {
        let yaml = with_buffer(&format!("    buffer_size_kb: {size}\n"), &listeners, &[cluster("c", 1, "")]);
        let (text, accepted) = validate(&yaml);
        assert_eq!(accepted, good, "{size}: {text}");
    }
    let address = "  - name: l\n    address: { envoy_internal_address: { server_listener_name: l } }\n    filter_chains:\n    - filters:\n";
    let text = refused(&whole(&[format!("{address}{}", chain())], &[cluster("c", 1, "")]));
    assert!(text.contains("use internal_listener field instead of address for internal listeners"), "{text}");
}

#[test]
fn an_endpoint_without_its_listener_is_warned_of() {
    let yaml = whole(&[listener("l", free_port(), &tcp_proxy("hop", ""))], &[hop("hop", "missing", "")]);
    let (text, accepted) = validate(&yaml);
    assert!(accepted && text.contains("there is no internal listener 'missing'"), "{text}");
}
