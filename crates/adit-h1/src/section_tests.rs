#![allow(clippy::unwrap_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::fields;
use crate::scan::{Extent, Scan, Scanner};

const WORDS: &[&str] = &[
    "host",
    "Host",
    "te",
    "x",
    "Content-Length",
    "content-lengtH",
    "transfer-encoding",
    "proxy-connection",
    "user-agent",
    "x-a-name-of-more-than-sixty-four-octets-which-takes-another-way-through-it",
    ":",
    ": ",
    " : ",
    ":\t ",
    "\r\n",
    "\r\n",
    "a: b\r\n",
    "\r\n ",
    " ",
    "\t",
    ",",
    "5",
    "chunked",
    "v\u{e9}",
    "\0",
    "\u{7f}",
    "(",
    "@",
    "_",
    "{",
    "\u{1}",
];

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(word, 0..16).prop_map(|words| [&words.concat(), &b"\r\n\r\n"[..]].concat())
}

/// What httparse makes of it: fields, and the size of them all.
fn reference(head: &[u8], max: usize) -> Result<(HeaderMap, usize), Refusal> {
    let mut table = vec![httparse::EMPTY_HEADER; max];
    let httparse::Status::Complete((length, parsed)) = httparse::parse_headers(head, &mut table)? else {
        panic!("the scanner saw its end: {head:?}");
    };
    assert_eq!(length, head.len());
    let append = |mut map: HeaderMap, field: &httparse::Header<'_>| {
        map.append(
            HeaderName::from_bytes(field.name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(field.value).unwrap(),
        );
        map
    };
    Ok((parsed.iter().fold(HeaderMap::new(), append), fields::size(parsed)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_are_what_httparse_takes_them_for(input in soup(), max in 0usize..6) {
        if let Scan::Complete(Extent { length, lines }) = Scanner::default().scan(&input) {
            let head = Bytes::from(input).slice(..length);
            let got = parse(&head, 0, lines, max, Whose::Trailers);
            if let Ok(got) = &got {
                prop_assert_eq!(lines, got.map.len());
            }
            prop_assert_eq!(got.map(|got| (got.map, got.size)), reference(&head, max));
        }
    }
}

#[test]
fn every_octet_of_a_name_and_of_a_value_is_judged_as_httparse_does() {
    for byte in (0..=u8::MAX).filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        for at in 0..40 {
            let (mut name, mut value) = (*b"abcdefghijklmnopqrst", *b"....................");
            if let Some(place) = name.iter_mut().chain(&mut value).nth(at) {
                *place = byte;
            }
            let head = Bytes::from([&name[..], b": ", &value, b"\r\n\r\n"].concat());
            let got = parse(&head, 0, 1, 1, Whose::Response).map(|got| (got.map, got.size));
            assert_eq!(got, reference(&head, 1), "{byte} at {at}");
        }
    }
}

#[test]
fn a_host_is_judged_as_any_other_value() {
    for byte in 0..=u8::MAX {
        assert_eq!(is_of_value(byte), HeaderValue::from_bytes(&[byte]).is_ok(), "{byte}");
    }
    let bad = Bytes::from_static(b"host: a\x7f\r\n\r\n");
    assert_eq!(parse(&bad, 0, 1, 9, Whose::Request).unwrap_err(), Refusal::CODEC);
    let nul = Bytes::from_static(b"host: a\0\r\n\r\n");
    assert_eq!(parse(&nul, 0, 1, 0, Whose::Request).unwrap_err(), Refusal::CHARACTERS);
    assert_eq!(parse(&nul, 0, 1, 0, Whose::Trailers).unwrap_err(), Refusal::CODEC);
}

#[test]
fn names_have_their_role_however_they_are_spelled() {
    for (text, role) in [
        ("host", Role::Host),
        ("content-length", Role::ContentLength),
        ("transfer-encoding", Role::TransferEncoding),
        ("expect", Role::Expect),
        ("upgrade", Role::Upgrade),
        ("connection", Role::Connection),
        ("proxy-connection", Role::ProxyConnection),
        ("te", Role::TeOrKeepAlive),
        ("keep-alive", Role::TeOrKeepAlive),
        ("accept", Role::Plain),
        ("accept-encoding", Role::Plain),
        ("accept-language", Role::Plain),
        ("user-agent", Role::Plain),
        ("date", Role::Plain),
        ("x-custom", Role::Plain),
        ("user-agenT", Role::Plain),
        ("connectiom", Role::Plain),
        ("hosu", Role::Plain),
    ] {
        for spelled in [text.to_owned(), text.to_uppercase()] {
            let lower = HeaderName::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(name(spelled.as_bytes()), Ok((lower, role)));
        }
    }
}

#[test]
fn the_host_of_a_request_stands_in_no_map() {
    let head = Bytes::from_static(b"Host: a\r\nx: y\r\nhost: b\r\n\r\n");
    let Section { map, said, size } = parse(&head, 0, 3, 3, Whose::Request).unwrap();
    assert_eq!((map.len(), said.hosts, said.host.as_deref(), size), (1, 2, Some(&b"a"[..]), 8 + 5 + 8));
    assert_eq!(parse(&head, 0, 3, 3, Whose::Response).unwrap().map.len(), 3);
    assert_eq!(parse(&head, 0, 3, 2, Whose::Request).unwrap_err(), Refusal::TOO_MANY_HEADERS);
}

#[test]
fn nothing_stands_behind_the_empty_line_and_nothing_is_missing() {
    for text in ["x: y\r\n", "x: y", "", "x: y\r\n\r\nz", "x: y\n\r\n", "x: y\r\r\n\r\n"] {
        assert_eq!(parse(&Bytes::from(text), 0, 1, 9, Whose::Trailers).unwrap_err(), Refusal::CODEC, "{text:?}");
    }
    assert_eq!(parse(&Bytes::from("\r\n"), 0, 0, 0, Whose::Trailers).unwrap().size, 3);
}
