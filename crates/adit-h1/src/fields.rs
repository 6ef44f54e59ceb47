//! Header fields of a head, and what they say about its framing.

use adit_http::hop_by_hop;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use httparse::Header;

use crate::refuse::Refusal;
use crate::section::Role;

/// What those fields of a head say that are the codec's own business, found in the pass that makes the map: to look for a
/// field that is not there costs as much as the whole pass, and most of these are not there.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The first `host`, of a request: it stands in no map.
    pub(crate) host: Option<Bytes>,
    /// How many of them there are.
    pub(crate) hosts: usize,
    /// How many `content-length` there are, and what the last says, if it is a length.
    pub(crate) lengths: usize,
    length: Option<u64>,
    /// How many `transfer-encoding` there are, and whether the last is exactly `chunked`.
    pub(crate) codings: usize,
    chunked: bool,
    pub(crate) expect: bool,
    /// How many `upgrade` there are.
    pub(crate) upgrades: usize,
    /// What `connection` and `proxy-connection` name, where they are there.
    pub(crate) connection: Option<Options>,
    pub(crate) proxy_connection: Option<Options>,
    /// `te` or `keep-alive` is there.
    te_or_keep_alive: bool,
}

/// Those connection options that we know (RFC 9110 section 7.6.1).
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Any other, the name of a field above all.
    others: bool,
}

impl Options {
    fn read(&mut self, value: &HeaderValue) {
        // As in `has_token`: what is not text names nothing.
        for token in hop_by_hop::tokens(value.to_str().unwrap_or_default().as_bytes()) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else {
                self.others = true;
            }
        }
    }
}

impl Said {
    /// Whether [`hop_by_hop::strip`] may have something to remove.
    pub(crate) fn must_strip(&self, keep_upgrade: bool) -> bool {
        self.te_or_keep_alive
            || self.codings > 0
            || self.proxy_connection.is_some()
            || self.connection.is_some_and(|options| options.others || !keep_upgrade)
            || (self.upgrades > 0 && !keep_upgrade)
    }

    /// Reads the framing fields of the map strictly: more than one Content-Length is refused, equal ones too; with
    /// `allow_chunked_length` Transfer-Encoding beats Content-Length, which is removed.
    pub(crate) fn framing(&self, map: &mut HeaderMap, allow_chunked_length: bool) -> Result<Framing, Refusal> {
        let length = self.length()?;
        if self.codings == 0 {
            return Ok(length.map_or(Framing::Unsaid, Framing::Length));
        }
        if self.codings > 1 || !self.chunked {
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
    pub(crate) fn length(&self) -> Result<Option<u64>, Refusal> {
        match self.lengths {
            0 => Ok(None),
            1 => self.length.map(Some).ok_or(Refusal::CODEC),
            _ => Err(Refusal::CODEC),
        }
    }

    /// `connection: upgrade` is there.
    pub(crate) fn announces_upgrade(&self) -> bool {
        self.connection.is_some_and(|options| options.upgrade)
    }

    /// Persistence (RFC 9112 section 9.3); `proxy-connection` counts as `connection`, as in Envoy.
    pub(crate) fn keep_alive(&self, old: bool) -> bool {
        let both = [self.connection, self.proxy_connection];
        let mut any = both.into_iter().flatten();
        let has = |option: fn(&Options) -> bool| both.iter().flatten().any(option);
        match any.next() {
            None => !old,
            Some(_) => !has(|options| options.close) && (!old || has(|options| options.keep_alive)),
        }
    }

    /// Notes what a field says; what is to be done with `host` depends on whose it is.
    pub(crate) fn note(&mut self, role: Role, value: &HeaderValue) {
        match role {
            Role::Plain | Role::Host => {}
            Role::ContentLength => {
                self.lengths += 1;
                self.length = parse_length(value.as_bytes());
            }
            Role::TransferEncoding => {
                self.codings += 1;
                self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            Role::Expect => self.expect = true,
            Role::Upgrade => self.upgrades += 1,
            Role::Connection => self.connection.get_or_insert_default().read(value),
            Role::ProxyConnection => self.proxy_connection.get_or_insert_default().read(value),
            Role::TeOrKeepAlive => self.te_or_keep_alive = true,
        }
    }
}

/// Places for the fields of a section of these bytes, where at most `max` are allowed: a field takes three octets at least.
pub(crate) fn at_most(max: usize, section: &[u8]) -> usize {
    max.min(section.len() / 3)
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

/// A length: digits only.
pub(crate) fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// Takes every token for which `drop` says so out of all values of a comma-separated list; says whether any was taken.
/// The rest becomes one value; with nothing left the field is removed.
pub(crate) fn remove_tokens(map: &mut HeaderMap, name: &HeaderName, drop: impl Fn(&str) -> bool) -> bool {
    if !list(map, name).any(&drop) {
        return false;
    }
    let mut kept = String::new();
    for token in list(map, name).filter(|token| !drop(token)) {
        if !kept.is_empty() {
            kept.push_str(", ");
        }
        kept.push_str(token);
    }
    match HeaderValue::from_maybe_shared(Bytes::from(kept)) {
        Ok(value) if !value.is_empty() => {
            map.insert(name, value);
        }
        _ => {
            map.remove(name);
        }
    }
    true
}

/// The tokens in all values of a list field. What is not text cannot be told apart into tokens: none of it is one that we
/// know.
fn list<'a>(map: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let texts = map.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let tokens = texts.flat_map(|text| hop_by_hop::tokens(text.as_bytes()));
    tokens.filter(|token| !token.is_empty()).map(|token| std::str::from_utf8(token).unwrap_or_default())
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
    hop_by_hop::strip(map, false);
    for name in
        [header::CONTENT_LENGTH, header::HOST, header::TE, header::TRAILER, header::EXPECT, header::AUTHORIZATION]
    {
        map.remove(name);
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
