//! The field lines of a head or of a trailer section, from bytes to a map.
//!
//! What a name and a value may consist of is held by the types that they become: [`HeaderName::from_bytes`] takes a token
//! and [`HeaderValue`] neither control characters nor line ends (RFC 9110 sections 5.1 and 5.5). A folded line is none, as
//! its name would begin with a space, and so is one with a space in front of its colon (RFC 9112 section 5).

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::fields::Said;
use crate::refuse::Refusal;
use crate::scan;

/// Fields that a proxy adds to a head: room for them from the start saves the map from growing.
const ADDED: usize = 2;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whose field lines they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of a request, whose `host` goes beside the map.
    Request,
    Response,
    Trailers,
}

/// Field lines that were taken.
#[derive(Debug)]
pub(crate) struct Section {
    /// Values are slices of the head, not copies.
    pub(crate) map: HeaderMap,
    pub(crate) said: Said,
    /// See [`crate::fields::size`].
    pub(crate) size: usize,
}

/// What a field is to the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Host,
    ContentLength,
    TransferEncoding,
    Expect,
    Upgrade,
    Connection,
    ProxyConnection,
    TeOrKeepAlive,
    /// Nothing.
    Plain,
}

/// Fields that the map has room for from the start at most: it grows for more, once they have been judged.
const ROOM: usize = 128;

/// Reads the field lines of `head` from `at` to the empty line, which must be its end. `lines` is at least how many there are, and
/// only sizes the map; at most `max` are taken.
pub(crate) fn parse(head: &Bytes, mut at: usize, lines: usize, max: usize, whose: Whose) -> Result<Section, Refusal> {
    let room = lines.min(max).min(ROOM).saturating_add(ADDED);
    let mut map = HeaderMap::try_with_capacity(room).map_err(|_| Refusal::TOO_MANY_HEADERS)?;
    let (mut said, mut size, mut count) = (Said::default(), 0, 0);
    loop {
        let rest = head.get(at..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            break;
        }
        // One of another line makes no name.
        let colon = scan::find(head, at, b':').ok_or(Refusal::CODEC)?;
        let (name, role) = name(rest.get(..colon - at).unwrap_or_default())?;
        let end = scan::line_break(head, colon).ok_or(Refusal::CODEC)?;
        if head.get(end..end + 2) != Some(b"\r\n") {
            return Err(Refusal::CODEC);
        }
        let (start, stop) = trimmed(head, colon + 1, end);
        let bytes = head.slice(start..stop);
        let bad = || if whose == Whose::Request && head.contains(&0) { Refusal::CHARACTERS } else { Refusal::CODEC };
        // Judged by its line before it is one too many.
        let full = count == max;
        count += 1;
        size += colon - at + stop - start + 3;
        at = end + 2;
        if role == Role::Host && whose == Whose::Request {
            if !bytes.iter().all(|byte| is_of_value(*byte)) {
                return Err(bad());
            }
            said.hosts += 1;
            said.host.get_or_insert(bytes);
        } else {
            let value = HeaderValue::from_maybe_shared(bytes).map_err(|_| bad())?;
            said.note(role, &value);
            map.try_append(name, value).map_err(|_| Refusal::TOO_MANY_HEADERS)?;
        }
        if full {
            return Err(Refusal::TOO_MANY_HEADERS);
        }
    }
    // The empty line alone counts three.
    if at + 2 == head.len() { Ok(Section { map, said, size: size.max(3) }) } else { Err(Refusal::CODEC) }
}

/// Where the value between these places starts and stops, without the spaces around it.
fn trimmed(head: &[u8], mut start: usize, mut stop: usize) -> (usize, usize) {
    let is_space = |at: usize| matches!(head.get(at), Some(b' ' | b'\t'));
    while start < stop && is_space(start) {
        start += 1;
    }
    while start < stop && is_space(stop - 1) {
        stop -= 1;
    }
    (start, stop)
}

/// What [`HeaderValue`] takes.
fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn name(text: &[u8]) -> Result<(HeaderName, Role), Refusal> {
    match known(text) {
        Some((name, role)) if is_spelled(text, name.as_str()) => Ok((name, role)),
        _ => Ok((HeaderName::from_bytes(text).map_err(|_| Refusal::CODEC)?, Role::Plain)),
    }
}

/// As `eq_ignore_ascii_case`, for a name of letters in lower case and hyphens: eight octets at a time.
fn is_spelled(text: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    // Case is bit 5 of an octet that has bit 6, of those in a name the letters.
    let same = |text: &[u8; 8], name: &[u8; 8]| {
        let (text, name) = (u64::from_le_bytes(*text), u64::from_le_bytes(*name));
        (text ^ name) & !((name & u64::from_le_bytes([0x40; 8])) >> 1) == 0
    };
    let (Some(last_of_text), Some(last_of_name)) = (text.last_chunk(), name.last_chunk()) else {
        return text.eq_ignore_ascii_case(name);
    };
    let (texts, names) = (text.as_chunks().0.iter(), name.as_chunks().0.iter());
    text.len() == name.len()
        && texts.zip(names).all(|(text, name)| same(text, name))
        && same(last_of_text, last_of_name)
}

/// The one name that it may be of those with a role, which are all here, and of some that most heads have: to compare it
/// costs less than to look it up among all.
fn known(text: &[u8]) -> Option<(HeaderName, Role)> {
    Some(match (text.len(), text.first()?.to_ascii_lowercase()) {
        (2, b't') => (header::TE, Role::TeOrKeepAlive),
        (4, b'd') => (header::DATE, Role::Plain),
        (4, b'h') => (header::HOST, Role::Host),
        (6, b'a') => (header::ACCEPT, Role::Plain),
        (6, b'c') => (header::COOKIE, Role::Plain),
        (6, b'e') => (header::EXPECT, Role::Expect),
        (6, b's') => (header::SERVER, Role::Plain),
        (7, b'u') => (header::UPGRADE, Role::Upgrade),
        (10, b'c') => (header::CONNECTION, Role::Connection),
        (10, b'k') => (KEEP_ALIVE, Role::TeOrKeepAlive),
        (10, b'u') => (header::USER_AGENT, Role::Plain),
        (12, b'c') => (header::CONTENT_TYPE, Role::Plain),
        (14, b'c') => (header::CONTENT_LENGTH, Role::ContentLength),
        (15, b'a') => (header::ACCEPT_ENCODING, Role::Plain),
        (16, b'p') => (PROXY_CONNECTION, Role::ProxyConnection),
        (17, b't') => (header::TRANSFER_ENCODING, Role::TransferEncoding),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "section_tests.rs"]
mod tests;
