#![allow(clippy::unwrap_used)]
use super::*;

fn take(method: &Method, target: &str) -> Result<Target, Refusal> {
    let host = Bytes::from_static(b"host.example");
    parse(method, Bytes::copy_from_slice(target.as_bytes()), Some(host), &ServerConfig::default(), Scheme::Http)
}

fn plain(target: &str) -> Result<(String, String, Scheme), Refusal> {
    let target = take(&Method::GET, target)?;
    Ok((target.authority.unwrap().to_string(), target.path.unwrap().to_string(), target.scheme))
}

#[test]
fn origin_form() {
    for path in ["/", "/a/b?c=d&e", "//x", "/%41?", "/a?b?c", "/{}|^"] {
        assert_eq!(plain(path).unwrap(), ("host.example".into(), path.into(), Scheme::Http));
    }
}

#[test]
fn u24_absolute_form_replaces_host() {
    for (target, authority, path, scheme) in [
        ("http://h/", "h", "/", Scheme::Http),
        ("HTTPS://h:8443/a?b", "h:8443", "/a?b", Scheme::Https),
        ("http://h", "h", "/", Scheme::Http),
        ("http://h?x", "h", "/?x", Scheme::Http),
        ("http://[::1]:80/", "[::1]:80", "/", Scheme::Http),
    ] {
        assert_eq!(plain(target).unwrap(), (authority.into(), path.into(), scheme), "{target}");
    }
    for bad in ["http://", "http:///x", "http://u@h/", "http://a b/", "http:/h/"] {
        assert!(matches!(plain(bad), Err(Refusal::URL | Refusal::CODEC)), "{bad}");
    }
    assert_eq!(plain("ftp://h/"), Err(Refusal::SCHEME));
}

#[test]
fn absolute_form_may_be_switched_off() {
    let cfg = ServerConfig { allow_absolute_url: false, ..ServerConfig::default() };
    let refused = parse(&Method::GET, Bytes::from_static(b"http://h/"), None, &cfg, Scheme::Http).unwrap_err();
    assert_eq!(refused, Refusal::ABSOLUTE_URL);
}

#[test]
fn what_is_no_target() {
    for (target, refusal) in [
        ("foo", Refusal::CODEC),
        ("h:80", Refusal::CODEC),
        ("*", Refusal::URL),
        ("", Refusal::CODEC),
        ("/a#b", Refusal::FRAGMENT),
        ("http://h/#b", Refusal::FRAGMENT),
        ("/a<b>", Refusal::URL),
    ] {
        assert_eq!(plain(target), Err(refusal), "{target}");
    }
    assert_eq!(take(&Method::OPTIONS, "*").unwrap().path.unwrap(), "*");
    assert_eq!(take(&Method::OPTIONS, "http://h").unwrap().path.unwrap(), "*");
    assert_eq!(take(&Method::OPTIONS, "**").unwrap_err(), Refusal::CODEC);
}

#[test]
fn c9_targets_of_connect() {
    for good in ["h:1", "h.example.:443", "127.0.0.1:65535", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        let target = take(&Method::CONNECT, good).unwrap();
        assert_eq!(target.connect.unwrap(), good);
        assert_eq!(target.authority.unwrap(), good);
    }
    let label = format!("{}:80", "a".repeat(300));
    for bad in [
        "",
        "h",
        "h:",
        "h:0",
        "h:65536",
        "h:+443",
        "h:0x1bb",
        "u@h:1",
        "h:1/",
        "h:1?x",
        "h:1#x",
        "/path",
        "*",
        ":80",
        "http://h:1/",
        "[fe80::1%eth0]:80",
        "2130706433:80",
        "0x7f000001:80",
        "0177.0.0.1:80",
        "b\u{fc}cher:80",
        "ex%61mple:80",
        "a..b:1",
        &label,
    ] {
        assert_eq!(take(&Method::CONNECT, bad).unwrap_err(), Refusal::URL, "{bad}");
    }
}
