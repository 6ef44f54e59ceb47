//! The fields of one header block under the rules that all messages share (RFC 9113 section 8.2).

use adit_http::hop_by_hop;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::FieldRules;
use crate::error::code;
use crate::frame::Fault;
use crate::hpack::{Decoder, Field, Pseudo};

/// Octets that RFC 9113 section 6.5.2 adds to each field.
const FIELD_OVERHEAD: usize = 32;
/// Beyond so many times the limit of a list, a message costs the connection and not its stream.
const ABUSE: usize = 4;
/// Room for this many fields is made at once: most messages have no more.
const USUAL_FIELDS: usize = 12;

/// The octets a block of this list size may take before it is decoded.
pub(crate) fn max_block(max_list: usize) -> usize {
    max_list.saturating_mul(ABUSE)
}

/// A header block that was read.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) method: Option<HeaderValue>,
    pub(crate) scheme: Option<HeaderValue>,
    pub(crate) authority: Option<HeaderValue>,
    pub(crate) path: Option<HeaderValue>,
    pub(crate) protocol: Option<HeaderValue>,
    pub(crate) status: Option<HeaderValue>,
    pub(crate) headers: HeaderMap,
    /// The one `content-length`.
    pub(crate) length: Option<u64>,
    /// A field makes its message malformed (RFC 9113 section 8.1.1).
    pub(crate) malformed: bool,
    /// It is above a limit of the configuration; not all of it is kept.
    pub(crate) too_large: bool,
    /// `host` fields, `cookie` fields.
    pub(crate) hosts: usize,
    pub(crate) cookies: usize,
    size: usize,
    /// A field that is no pseudo-header field came.
    regular: bool,
}

impl Section {
    /// Decodes a whole block, to the end whatever is in it: the table must stay the peer's.
    pub(crate) fn read(decoder: &mut Decoder, block: &[u8], rules: FieldRules, max_list: usize) -> Result<Self, Fault> {
        let mut section = Self::default();
        let read = decoder.decode(block, &mut |field, octets| section.take(field, octets, rules, max_list));
        if read.is_err() {
            return Err(Fault(code::COMPRESSION_ERROR));
        }
        if section.size > max_list.saturating_mul(ABUSE) {
            return Err(Fault(code::ENHANCE_YOUR_CALM));
        }
        section.too_large |= section.headers.len() > rules.count;
        Ok(section)
    }

    /// Whether it has a pseudo-header field of requests.
    pub(crate) fn has_request_fields(&self) -> bool {
        self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some()
    }

    fn take(&mut self, field: Field, octets: usize, rules: FieldRules, max_list: usize) {
        self.size = self.size.saturating_add(octets + FIELD_OVERHEAD);
        self.too_large |= self.size > max_list;
        match field {
            Field::Pseudo(name, value) => self.pseudo(name, value),
            Field::Regular(name, value) => {
                self.regular = true;
                self.too_large |= octets > rules.size;
                self.regular(name, value, rules);
            }
            Field::Malformed => self.malformed = true,
        }
    }

    /// All of them stand before the others, each once (RFC 9113 section 8.3).
    fn pseudo(&mut self, name: Pseudo, value: HeaderValue) {
        let place = match name {
            Pseudo::Method => &mut self.method,
            Pseudo::Scheme => &mut self.scheme,
            Pseudo::Authority => &mut self.authority,
            Pseudo::Path => &mut self.path,
            Pseudo::Protocol => &mut self.protocol,
            Pseudo::Status => &mut self.status,
        };
        if place.is_some() || self.regular {
            self.malformed = true;
        } else if !self.too_large {
            *place = Some(value);
        }
    }

    fn regular(&mut self, name: HeaderName, value: HeaderValue, rules: FieldRules) {
        let bytes = value.as_bytes();
        let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        // A value neither starts nor ends with a blank (RFC 9113 section 8.2.1).
        if blank(bytes.first()) || blank(bytes.last()) || !(rules.obs_text || bytes.is_ascii()) {
            self.malformed = true;
            return;
        }
        match name.as_str() {
            "te" if bytes != b"trailers" => self.malformed = true,
            "content-length" if !self.content_length(bytes) => return,
            "host" => self.hosts += 1,
            "cookie" => self.cookies += 1,
            _ => self.malformed |= hop_by_hop::is_connection_specific(&name),
        }
        if self.too_large || self.malformed {
            return;
        }
        if self.headers.is_empty() {
            self.headers.reserve(USUAL_FIELDS);
        }
        self.too_large |= self.headers.try_append(name, value).is_err();
    }

    /// Whether this one is to be kept: several must agree (RFC 9110 section 8.6).
    fn content_length(&mut self, text: &[u8]) -> bool {
        let digits = !text.is_empty() && text.len() < 20 && text.iter().all(u8::is_ascii_digit);
        let length = text
            .iter()
            .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
        let Some(length) = length.filter(|_| digits) else {
            self.malformed = true;
            return false;
        };
        match self.length.replace(length) {
            None => true,
            Some(before) => {
                self.malformed |= before != length;
                false
            }
        }
    }
}
