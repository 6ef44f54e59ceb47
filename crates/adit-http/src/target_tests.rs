#![allow(clippy::unwrap_used)]
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
