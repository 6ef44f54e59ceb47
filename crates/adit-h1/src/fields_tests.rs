#![allow(clippy::unwrap_used)]
use super::*;
use crate::section::{self, Section, Whose};

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

fn framing(map: &mut HeaderMap, allow_chunked_length: bool) -> Result<Framing, Refusal> {
    let mut said = Said::default();
    for (name, value) in map.iter() {
        let is_length = name == header::CONTENT_LENGTH;
        said.note(if is_length { Role::ContentLength } else { Role::TransferEncoding }, value);
    }
    said.framing(map, allow_chunked_length)
}

#[test]
fn u27_a_content_length_is_digits_only() {
    for bad in ["", "+5", "-5", "5,5", "5, 5", "0x5", "5 5", "99999999999999999999", "5a"] {
        assert_eq!(framing(&mut map(&[("content-length", bad)]), false), Err(Refusal::CODEC), "{bad:?}");
    }
    assert_eq!(framing(&mut map(&[("content-length", "007")]), false), Ok(Framing::Length(7)));
}

#[test]
fn one_content_length_and_no_more() {
    for other in ["5", "05", "6"] {
        let mut twice = map(&[("content-length", "5"), ("content-length", other)]);
        assert_eq!(framing(&mut twice, false), Err(Refusal::CODEC), "{other}");
    }
}

#[test]
fn u4_content_length_with_transfer_encoding() {
    let fields = [("content-length", "5"), ("transfer-encoding", "chunked")];
    assert_eq!(framing(&mut map(&fields), false), Err(Refusal::LENGTH_AND_CHUNKED));
    let mut allowed = map(&fields);
    assert_eq!(framing(&mut allowed, true), Ok(Framing::Chunked));
    assert!(!allowed.contains_key("content-length"));
}

#[test]
fn u27_transfer_encoding_is_exactly_one_chunked() {
    for bad in
        ["chunked, identity", ", chunked", "chunked,", "identity", "gzip, chunked", "xchunked", "chunked chunked", ""]
    {
        assert_eq!(framing(&mut map(&[("transfer-encoding", bad)]), false), Err(Refusal::TRANSFER_ENCODING), "{bad:?}");
    }
    let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
    assert_eq!(framing(&mut map(&twice), false), Err(Refusal::TRANSFER_ENCODING));
    assert_eq!(framing(&mut map(&[("transfer-encoding", "Chunked")]), false), Ok(Framing::Chunked));
}

#[test]
fn tokens_are_taken_from_every_value() {
    let mut fields = map(&[("upgrade", "h2c, websocket"), ("upgrade", "foo\t,H2C")]);
    assert!(remove_tokens(&mut fields, &header::UPGRADE, |token| token.eq_ignore_ascii_case("h2c")));
    assert_eq!(fields.get_all("upgrade").iter().collect::<Vec<_>>(), ["websocket, foo"]);
    assert!(!remove_tokens(&mut fields, &header::UPGRADE, |token| token == "bar"));
    assert!(remove_tokens(&mut fields, &header::UPGRADE, |_| true));
    assert!(!fields.contains_key("upgrade"));
}

#[test]
fn trailers_carry_no_framing() {
    let mut fields = map(&[
        ("content-length", "5"),
        ("host", "x"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("x", "y"),
    ]);
    clean_trailers(&mut fields);
    assert_eq!(fields, map(&[("x", "y")]));
}

#[test]
fn what_need_not_be_stripped_would_lose_nothing() {
    const FIELDS: [(&str, &str); 18] = [
        ("accept", "*/*"),
        ("connection", "upgrade"),
        ("connection", "Upgrade, keep-alive"),
        ("connection", "keep-alive"),
        ("connection", "close"),
        ("connection", ""),
        ("connection", "upgrade,"),
        ("connection", "x-custom"),
        ("connection", "upgrade, X-Custom"),
        ("connection", "upgrade, te"),
        ("upgrade", "websocket"),
        ("te", "trailers"),
        ("te", "gzip"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("x-custom", "1"),
        ("proxy-authorization", "basic"),
    ];
    let mut kept = 0;
    for (one, first) in FIELDS {
        for (other, second) in FIELDS {
            let lines = Bytes::from(format!("{one}: {first}\r\n{other}: {second}\r\n\r\n"));
            let Section { map, said, .. } = section::parse(&lines, 0, 2, 100, Whose::Response).unwrap();
            for keep_upgrade in [false, true] {
                let mut stripped = map.clone();
                hop_by_hop::strip(&mut stripped, keep_upgrade);
                if !said.must_strip(keep_upgrade) {
                    assert_eq!(stripped, map, "{keep_upgrade}");
                    kept += 1;
                }
            }
        }
    }
    assert!(kept > 20, "{kept}");
}
