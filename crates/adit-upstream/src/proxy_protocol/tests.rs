#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn info(remote: &str, local: &str) -> ConnInfo {
    ConnInfo::new(1, Address::Ip(local.parse().unwrap()), Address::Ip(remote.parse().unwrap()))
}

#[test]
fn headers() {
    let v4 = info("10.0.0.1:1000", "10.0.0.2:80");
    assert_eq!(header(false, Some(&v4)), b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\n");
    assert_eq!(header(true, Some(&v4)), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x03\xe8\0\x50");
    let mapped = info("[::ffff:10.0.0.1]:1000", "10.0.0.2:80");
    assert_eq!(header(false, Some(&mapped)), b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\n");
    let v6 = info("[::1]:1000", "[::2]:80");
    assert_eq!(header(false, Some(&v6)), b"PROXY TCP6 ::1 ::2 1000 80\r\n");
    assert_eq!(header(true, Some(&v6)).len(), 16 + 36);
    assert_eq!(header(false, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(header(true, None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    assert_eq!(header(false, Some(&info("[::1]:1", "10.0.0.2:80"))), b"PROXY UNKNOWN\r\n");
}
