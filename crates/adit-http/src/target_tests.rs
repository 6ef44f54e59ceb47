#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

#[test]
fn targets_that_may_be_dialled() {
    for (text, host, port) in [
        ("example.com:443", "example.com", 443),
        ("example.com.:443", "example.com.", 443),
        ("EXAMPLE.com:1", "EXAMPLE.com", 1),
        ("foo_bar:65535", "foo_bar", 65535),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:80", "::1", 80),
        ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80),
    ] {
        let target = ConnectTarget::parse(text).unwrap();
        assert_eq!((&*target.host, target.port), (host, port), "{text}");
        assert_eq!(target.to_string(), text);
    }
}

#[test]
fn targets_that_are_refused() {
    use TargetError::{Host, NoPort, Port};
    let long = format!("{}:80", "a".repeat(300));
    for (text, error) in [
        ("", Host),
        ("example.com", NoPort),
        ("[::1]", NoPort),
        ("example.com:", Port),
        ("example.com:0", Port),
        ("example.com:65536", Port),
        ("example.com:+443", Port),
        ("example.com:0x1bb", Port),
        ("example.com:000443", Port),
        ("example.com:443/", Port),
        ("example.com:443?x", Port),
        ("example.com:443#x", Port),
        ("u@example.com:443", Host),
        (":80", Host),
        ("/path:80", Host),
        ("*:80", Host),
        ("::1:80", Host),
        ("[::1%25eth0]:80", Host),
        ("[fe80::1%eth0]:80", Host),
        ("[::1:80", Host),
        ("[::1]x:80", Host),
        ("[127.0.0.1]:80", Host),
        ("2130706433:80", Host),
        ("0x7f.0.0.1:80", Host),
        ("0x7f000001:80", Host),
        ("127.1:80", Host),
        ("0177.0.0.1:80", Host),
        ("a..b:80", Host),
        ("ex%61mple.com:80", Host),
        ("b\u{fc}cher.example:80", Host),
        ("a\0b:80", Host),
        (&long, Host),
    ] {
        assert_eq!(ConnectTarget::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_missing_port_takes_the_default_where_there_is_one() {
    assert_eq!(ConnectTarget::parse_with_default("example.com", Some(443)).unwrap().port, 443);
    assert_eq!(ConnectTarget::parse_with_default("[::1]", Some(443)).unwrap().port, 443);
    assert_eq!(ConnectTarget::parse_with_default("example.com:", Some(443)), Err(TargetError::Port));
}

#[test]
fn the_target_of_a_connect_udp_stands_in_its_path() {
    let of =
        |rest: &str| connect_udp_target(&format!("/.well-known/masque/udp/{rest}")).map(|target| target.to_string());
    assert_eq!(of("target.example/443/").as_deref(), Ok("target.example:443"));
    assert_eq!(of("2001%3Adb8%3A%3A1/53/").as_deref(), Ok("[2001:db8::1]:53"));
    assert_eq!(of("fe80::1/53/").as_deref(), Ok("[fe80::1]:53"));
    for (rest, error) in [
        ("a/443", TargetError::Host),
        ("/443/", TargetError::Host),
        ("a//", TargetError::NoPort),
        ("a/0/", TargetError::Port),
        ("a/65536/", TargetError::Port),
        ("a/https/", TargetError::Port),
        ("a/443/x/", TargetError::Port),
        ("fe80%3A%3A1%25eth0/53/", TargetError::Host),
        ("%zz/53/", TargetError::Host),
        ("%ff/53/", TargetError::Host),
    ] {
        assert_eq!(of(rest), Err(error), "{rest}");
    }
    assert_eq!(connect_udp_target("/masque/udp/a/1/"), Err(TargetError::Host));
}

/// Text like targets, and text like nothing.
fn any_target() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-zA-Z0-9._-]{0,20}",
        "[0-9]{1,4}(\\.[0-9]{1,4}){0,4}",
        "0[xX][0-9a-fA-F]{0,9}",
        "\\[[0-9a-fA-F:.%]{0,30}\\]?",
        "[ -~]{0,12}",
        "\\PC{0,8}",
    ];
    let port = prop_oneof!["", ":", ":[0-9]{0,7}", ":[+ -]?[0-9]{1,5}", "[ -~]{0,8}"];
    (host, port).prop_map(|(host, port)| host + &port)
}

proptest! {
    /// Whatever the text: no panic, and what is accepted is written back as it came, names one address or a name that no
    /// resolver reads as an address, and has no byte that would end a field or a line.
    #[test]
    fn a_target_says_one_thing(text in any_target(), default in prop::option::of(1..u16::MAX)) {
        if let Ok(target) = ConnectTarget::parse(&text) {
            prop_assert_eq!(ConnectTarget::parse(&target.to_string()), Ok(target.clone()));
            prop_assert_eq!(ConnectTarget::parse_with_default(&text, default), Ok(target.clone()));
            prop_assert!(target.port > 0);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@%\\".contains(&byte)));
            prop_assert!(target.authority().is_some());
            let numeric = target.host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b':');
            prop_assert!(!numeric || target.socket_addr().is_some(), "{} is an address to some", text);
            if let Some(address) = target.socket_addr() {
                prop_assert_eq!(address.port(), target.port);
            }
        }
        if let (Ok(target), Some(port)) = (ConnectTarget::parse_with_default(&text, default), default) {
            let written = target.port.to_string();
            prop_assert!(target.port == port || text.ends_with(&written));
        }
        let _ = connect_udp_target(&text);
        let _ = parse_port(&text);
    }

    /// The two variables of a template decode to the target that they were made of.
    #[test]
    fn a_udp_target_survives_its_encoding(host in "[a-z0-9-]{1,20}y", port in 1u16..) {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let target = ConnectTarget { host: host.as_str().into(), port };
        prop_assert_eq!(udp_target(&encode(&host), &encode(&port.to_string())), Ok(target.clone()));
        prop_assert_eq!(connect_udp_target(&format!("/.well-known/masque/udp/{host}/{port}/")), Ok(target));
    }
}
