#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn complete(bytes: &[u8]) -> (ProxyHeader<'_>, usize) {
    match parse_proxy_header(bytes) {
        Ok(Progress::Complete { header, len }) => (header, len),
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

fn v2_bytes(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn pair(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

#[test]
fn version_1_headers() {
    for (text, expected) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 9 65535\r\n", pair("1.2.3.4:9", "5.6.7.8:65535")),
        ("PROXY TCP6 ::1 2001:db8::1 0 80\r\n", pair("[::1]:0", "[2001:db8::1]:80")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:: whatever\r\n", None),
    ] {
        let whole = format!("{text}payload\r\n");
        let (header, len) = complete(whole.as_bytes());
        assert_eq!((header.version, header.addresses, len), (Version::V1, expected, text.len()), "{text}");
    }
}

#[test]
fn malformed_version_1_headers() {
    let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(93));
    for text in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 9 10\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +9 10\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 9 10\r\n",
        "PROXY TCP4 ::1 ::1 9 10\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 9 10\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 9 10\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 9 10\r\n",
        &long,
    ] {
        let error = parse_proxy_header(text.as_bytes()).unwrap_err();
        assert_eq!(error.version, Version::V1, "{text}");
    }
}

#[test]
fn the_longest_version_1_header_fits() {
    let text = format!("PROXY UNKNOWN {}\r\n", "a".repeat(91));
    assert_eq!(text.len(), V1_MAX);
    assert_eq!(complete(text.as_bytes()).1, V1_MAX);
}

#[test]
fn version_2_headers() {
    let v4 = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 80];
    let bytes = v2_bytes(1, 0x11, &[&v4[..], &[0xe0, 0, 3], b"abc", &[4, 0, 0]].concat());
    let (header, len) = complete(&bytes);
    assert_eq!(len, bytes.len());
    assert_eq!(header.addresses, pair("1.2.3.4:9", "5.6.7.8:80"));
    assert_eq!(header.tlvs, [Tlv { kind: 0xe0, value: b"abc" }, Tlv { kind: 4, value: b"" }]);

    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 7;
    let bytes = v2_bytes(1, 0x21, &v6);
    assert_eq!(complete(&bytes).0.addresses, pair("[::1]:7", "[::2]:0"));

    // AF_UNSPEC with a TLV; LOCAL with whatever.
    let bytes = v2_bytes(1, 0x00, &[9, 0, 1, 5]);
    let (header, _) = complete(&bytes);
    assert_eq!((header.addresses, header.tlvs.len()), (None, 1));
    let bytes = v2_bytes(0, 0x31, &[1, 2, 3]);
    let (header, len) = complete(&bytes);
    assert_eq!((header.command, header.addresses, header.tlvs.len(), len), (Command::Local, None, 0, 19));
}

#[test]
fn malformed_version_2_headers() {
    let mut version = v2_bytes(1, 0x11, &[0; 12]);
    version[12] = 0x31;
    for bytes in [
        version,
        v2_bytes(2, 0x11, &[0; 12]),
        v2_bytes(1, 0x12, &[0; 12]),
        v2_bytes(1, 0x31, &[0; 216]),
        v2_bytes(1, 0x11, &[0; 11]),
        v2_bytes(1, 0x21, &[0; 35]),
        v2_bytes(1, 0x11, &[&[0; 12][..], &[1, 0]].concat()),
        v2_bytes(1, 0x11, &[&[0; 12][..], &[1, 0, 2, 0]].concat()),
    ] {
        let error = parse_proxy_header(&bytes).unwrap_err();
        assert_eq!(error.version, Version::V2, "{}", bytes.escape_ascii());
    }
}

#[test]
fn other_bytes_are_no_header() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PROXX", b"\r\n\r\nGET", b"x"] {
        assert_eq!(parse_proxy_header(bytes), Ok(Progress::Absent));
    }
    assert_eq!(parse_proxy_header(b""), Ok(Progress::Incomplete { version: None, need: 12 }));
}

fn headers() -> impl Strategy<Value = Vec<u8>> {
    let v1 = proptest::sample::select(vec![
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nrest",
        "PROXY UNKNOWN\r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP6 ::1 ::2 1 2\r\nmore",
    ]);
    let v2 = (0_u8..3, proptest::sample::select(vec![0_u8, 0x11, 0x21, 0x12]), any_body());
    prop_oneof![
        v1.prop_map(|text| text.as_bytes().to_vec()),
        v2.prop_map(|(command, family, body)| v2_bytes(command, family, &body)),
        proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..80)
}

proptest! {
    /// However the bytes are split, the decision is that of the whole, it comes as soon as `need` bytes are there, and
    /// `need` always asks for more than there is.
    #[test]
    fn a_prefix_never_decides_otherwise(bytes in headers()) {
        let whole = parse_proxy_header(&bytes);
        for end in 0..bytes.len() {
            let part = &bytes[..end];
            match parse_proxy_header(part) {
                Ok(Progress::Incomplete { need, .. }) => prop_assert!(need > end),
                decided => prop_assert_eq!(decided, whole.clone()),
            }
        }
        if let Ok(Progress::Complete { len, .. }) = whole {
            prop_assert!(len <= bytes.len());
        }
    }

    #[test]
    fn arbitrary_bytes_behind_a_signature_do_no_harm(rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        for signature in [&V2_SIGNATURE[..], V1_SIGNATURE] {
            let _ = parse_proxy_header(&[signature, &rest].concat());
        }
    }
}
