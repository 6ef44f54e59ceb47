//! Header fields of a head, and what they say about its framing.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use httparse::Header;

use crate::refuse::Refusal;

/// Fields that a proxy adds to a head: room for them from the start saves the map from growing.
const ADDED: usize = 3;

/// Fields from the parser into a map; values are slices of `head`, not copies.
pub(crate) fn to_map(head: &Bytes, fields: &[Header<'_>]) -> Result<HeaderMap, Refusal> {
    let mut map =
        HeaderMap::try_with_capacity(fields.len().saturating_add(ADDED)).map_err(|_| Refusal::TOO_MANY_HEADERS)?;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::CODEC)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| Refusal::CODEC)?;
        map.try_append(name, value).map_err(|_| Refusal::TOO_MANY_HEADERS)?;
    }
    Ok(map)
}

/// The bytes of the fields of a head as Envoy counts what it receives: names, values, and three for each.
pub(crate) fn size(fields: &[Header<'_>]) -> usize {
    let sum: usize = fields.iter().map(|field| field.name.len() + field.value.len() + 3).sum();
    sum.max(3)
}

/// What a head says of the length of its message (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither field.
    Unsaid,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: exactly `chunked`.
    Chunked,
}

/// Reads the framing fields strictly: more than one Content-Length is refused, equal ones too; with
/// `allow_chunked_length` Transfer-Encoding beats Content-Length, which is removed.
pub(crate) fn framing(map: &mut HeaderMap, allow_chunked_length: bool) -> Result<Framing, Refusal> {
    let length = length_of(map)?;
    if !map.contains_key(header::TRANSFER_ENCODING) {
        return Ok(length.map_or(Framing::Unsaid, Framing::Length));
    }
    let mut codings = map.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !first || codings.next().is_some() {
        return Err(Refusal::TRANSFER_ENCODING);
    }
    if length.is_some() {
        if !allow_chunked_length {
            return Err(Refusal::LENGTH_AND_CHUNKED);
        }
        map.remove(header::CONTENT_LENGTH);
    }
    Ok(Framing::Chunked)
}

/// The one Content-Length: digits only.
pub(crate) fn length_of(map: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = map.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let length = parse_length(first.as_bytes()).ok_or(Refusal::CODEC)?;
    if values.next().is_some() { Err(Refusal::CODEC) } else { Ok(Some(length)) }
}

fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// Takes every token for which `drop` says so out of all values of a comma-separated list; says whether any was taken.
/// The rest becomes one value; with nothing left the field is removed.
pub(crate) fn remove_tokens(map: &mut HeaderMap, name: &HeaderName, drop: impl Fn(&str) -> bool) -> bool {
    let mut kept = String::new();
    let mut removed = false;
    for value in map.get_all(name) {
        // What is not text cannot be told apart into tokens: none of it is one that we know.
        for token in value.to_str().unwrap_or("").split(',').map(|token| token.trim_matches([' ', '\t'])) {
            if token.is_empty() {
                continue;
            }
            if drop(token) {
                removed = true;
                continue;
            }
            if !kept.is_empty() {
                kept.push_str(", ");
            }
            kept.push_str(token);
        }
    }
    if removed {
        match HeaderValue::from_maybe_shared(Bytes::from(kept)) {
            Ok(value) if !value.is_empty() => {
                map.insert(name, value);
            }
            _ => {
                map.remove(name);
            }
        }
    }
    removed
}

/// Joins all values of a list field into one.
pub(crate) fn join(map: &mut HeaderMap, name: &HeaderName) {
    let mut joined = Vec::new();
    for value in map.get_all(name) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        map.insert(name, value);
    }
}

/// Fields that may not stand in trailers: framing, routing, and those of one hop (RFC 9110 section 6.5.1).
pub(crate) fn clean_trailers(map: &mut HeaderMap) {
    adit_http::hop_by_hop::strip(map, false);
    for name in
        [header::CONTENT_LENGTH, header::HOST, header::TE, header::TRAILER, header::EXPECT, header::AUTHORIZATION]
    {
        map.remove(name);
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
