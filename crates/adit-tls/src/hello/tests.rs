#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

/// The message of a ClientHello with these extensions.
fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(vector(2, data));
    }
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend(vector(1, &[5; 32]));
    body.extend(vector(2, &[0x13, 1, 0xc0, 0x2f]));
    body.extend(vector(1, &[0]));
    body.extend(vector(2, &list));
    [vec![1], vector(3, &body)].concat()
}

fn vector(width: usize, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_be_bytes();
    [&length[4 - width..], data].concat()
}

fn name(text: &str) -> (u16, Vec<u8>) {
    (SERVER_NAME, vector(2, &[vec![0], vector(2, text.as_bytes())].concat()))
}

fn protocols(list: &[&str]) -> (u16, Vec<u8>) {
    (super::ALPN, vector(2, &list.iter().map(|one| vector(1, one.as_bytes())).collect::<Vec<_>>().concat()))
}

fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = message;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let n = sizes.next().unwrap_or(rest.len()).clamp(1, 16 << 10).min(rest.len());
        out.extend([22, 3, 1]);
        out.extend(vector(2, &rest[..n]));
        rest = &rest[n..];
    }
    out
}

#[test]
fn what_it_asks_for_is_found() {
    let versions = (SUPPORTED_VERSIONS, vector(1, &[3, 4, 3, 3]));
    let whole = message(&[(10, vec![0, 2, 0, 29]), name("Some.Test"), protocols(&["h2", "http/1.1"]), versions]);
    let expected = ClientHello {
        server_name: Some("some.test".into()),
        alpn: vec!["h2".into(), "http/1.1".into()],
        versions: vec![0x0304, 0x0303],
    };
    assert_eq!(inspect_client_hello(&records(&whole, &[whole.len()])), Inspect::Hello(expected));
    let bare = message(&[]);
    let expected = ClientHello { versions: vec![0x0303], ..ClientHello::default() };
    assert_eq!(inspect_client_hello(&records(&bare, &[7])), Inspect::Hello(expected));
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI *", b"\x16\x02", b"\x15\x03\x01\0\x02", b"\0", b"SSH-2.0"] {
        assert_eq!(inspect_client_hello(bytes), Inspect::NotTls, "{bytes:?}");
    }
    for bytes in [&b""[..], b"\x16", b"\x16\x03", b"\x16\x03\x01\x01\0\x01"] {
        assert_eq!(inspect_client_hello(bytes), Inspect::NeedMore, "{bytes:?}");
    }
}

#[test]
fn damage_is_noticed() {
    let twice = message(&[name("a.test"), name("b.test")]);
    let empty_name = message(&[name("")]);
    let control = message(&[name("a\nb")]);
    let no_protocol = message(&[protocols(&[])]);
    let empty_protocol = message(&[protocols(&[""])]);
    let odd_versions = message(&[(SUPPORTED_VERSIONS, vector(1, &[3, 4, 3]))]);
    let mut short_extension = message(&[name("a.test")]);
    *short_extension.last_mut().unwrap() = 0;
    short_extension.truncate(short_extension.len());
    let server_hello = [vec![2], vector(3, &[0; 50])].concat();
    for whole in [twice, empty_name, control, no_protocol, empty_protocol, odd_versions, server_hello] {
        assert_eq!(inspect_client_hello(&records(&whole, &[whole.len()])), Inspect::Malformed, "{whole:?}");
    }
    // Records: none may be empty, longer than 2^14, or of another kind in the middle.
    assert_eq!(inspect_client_hello(b"\x16\x03\x01\0\0"), Inspect::Malformed);
    assert_eq!(inspect_client_hello(b"\x16\x03\x01\x40\x01"), Inspect::Malformed);
    let mut cut = records(&message(&[]), &[20]);
    cut[25] = 23;
    assert_eq!(inspect_client_hello(&cut), Inspect::Malformed);
    // A message that could never be whole.
    assert_eq!(inspect_client_hello(&records(&[1, 1, 0, 0, 0], &[5])), Inspect::Malformed);
}

fn extension() -> impl Strategy<Value = (u16, Vec<u8>)> {
    prop_oneof![
        "[a-z]{1,10}(\\.[a-z]{1,10}){0,4}".prop_map(|text| name(&text)),
        proptest::collection::vec("[a-z0-9/.]{1,20}", 1..5)
            .prop_map(|list| protocols(&list.iter().map(String::as_str).collect::<Vec<_>>())),
        (100_u16.., proptest::collection::vec(any::<u8>(), 0..300)),
    ]
}

/// Each kind once, as a client may send them.
fn extensions() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    proptest::collection::vec(extension(), 0..8).prop_map(|mut list| {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|(kind, _)| seen.insert(*kind));
        list
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn records_may_be_cut_anywhere_and_a_beginning_never_decides(
        extensions in extensions(),
        sizes in proptest::collection::vec(1_usize..200, 1..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let whole = message(&extensions);
        let expected = inspect_client_hello(&records(&whole, &[whole.len()]));
        prop_assert!(matches!(expected, Inspect::Hello(_)), "{expected:?}");
        let cut = records(&whole, &sizes);
        prop_assert_eq!(&inspect_client_hello(&cut), &expected);
        for end in 0..cut.len() {
            prop_assert_eq!(inspect_client_hello(&cut[..end]), Inspect::NeedMore, "{}", end);
        }
        prop_assert_eq!(&inspect_client_hello(&[&cut[..], &tail].concat()), &expected);
    }

    #[test]
    fn nothing_makes_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        tls in any::<bool>(),
    ) {
        if tls && bytes.len() > 9 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
            bytes[3] = 0;
            bytes[5] = 1;
            bytes[6..8].copy_from_slice(&[0, 0]);
        }
        let _ = inspect_client_hello(&bytes);
    }

    #[test]
    fn a_flipped_byte_never_panics(extensions in extensions(), at in any::<proptest::sample::Index>(), to in any::<u8>()) {
        let mut bytes = records(&message(&extensions), &[1 << 14]);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = inspect_client_hello(&bytes);
    }
}
