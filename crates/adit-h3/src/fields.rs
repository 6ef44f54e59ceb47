//! One field section under the rules of RFC 9114 section 4.2: what every message shares.

use adit_http::{hop_by_hop, pseudo};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::Limits;
use crate::qpack;

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed (RFC 9114 section 4.1.2): a stream error of type H3_MESSAGE_ERROR.
    Malformed,
    /// A section above its limits: a request is answered 431.
    TooLarge,
    /// The block cannot be read: a connection error of type QPACK_DECOMPRESSION_FAILED.
    Qpack,
}

/// The pseudo-header fields of a section, as text; `:status` of a response, the others of a request.
#[derive(Debug, Default)]
pub(crate) struct Pseudo {
    pub(crate) method: Option<Box<[u8]>>,
    pub(crate) scheme: Option<Box<[u8]>>,
    pub(crate) authority: Option<Box<[u8]>>,
    pub(crate) path: Option<Box<[u8]>>,
    pub(crate) protocol: Option<Box<[u8]>>,
    pub(crate) status: Option<Box<[u8]>>,
}

impl Pseudo {
    fn place(&mut self, name: &[u8]) -> Option<&mut Option<Box<[u8]>>> {
        Some(match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            b":status" => &mut self.status,
            _ => return None,
        })
    }

    /// Whether the section has none of these (trailers) but those that `allowed` names.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_request_fields() && self.status.is_none()
    }

    pub(crate) fn has_request_fields(&self) -> bool {
        self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some()
    }
}

/// A field section that was read.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) pseudo: Pseudo,
    pub(crate) headers: HeaderMap,
    /// The one `content-length`.
    pub(crate) length: Option<u64>,
}

/// Reads a section. Limits are looked at before meaning, so that a bomb costs no more than its limit.
pub(crate) fn read(block: &[u8], limits: Limits) -> Result<Section, Refusal> {
    let mut section = Section::default();
    let (mut count, mut malformed) = (0u32, false);
    let read = qpack::decode(block, limits.size as usize, |name, value| {
        count += 1;
        if count > limits.count.saturating_add(PSEUDO_FIELDS) {
            return Err(Refusal::TooLarge);
        }
        // A malformed field does not stop the reading: a block that is broken as well is the graver error.
        malformed = malformed || take(&mut section, name, value, limits).is_none();
        Ok(())
    });
    match read {
        Err(qpack::Error::Block) => return Err(Refusal::Qpack),
        Err(qpack::Error::TooLarge) => return Err(Refusal::TooLarge),
        Err(qpack::Error::Sink(refusal)) => return Err(refusal),
        Ok(()) if malformed => return Err(Refusal::Malformed),
        Ok(()) => {}
    }
    if section.headers.len() > limits.count as usize {
        return Err(Refusal::TooLarge);
    }
    pseudo::join_cookies(&mut section.headers);
    Ok(section)
}

/// Pseudo-header fields do not count against `max_headers_count`.
const PSEUDO_FIELDS: u32 = 6;

/// `None` when the field makes its message malformed.
fn take(section: &mut Section, name: &[u8], value: &[u8], limits: Limits) -> Option<()> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) || !(limits.obs_text || value.is_ascii()) {
        return None;
    }
    if name.first() == Some(&b':') {
        // All of them stand before the others (RFC 9114 section 4.3).
        let place = section.pseudo.place(name).filter(|place| place.is_none() && section.headers.is_empty())?;
        *place = Some(value.into());
        return Some(());
    }
    let name = HeaderName::from_lowercase(name).ok()?;
    let value = HeaderValue::from_bytes(value).ok()?;
    if hop_by_hop::is_connection_specific(&name) || (name == header::TE && value != "trailers") {
        return None;
    }
    if name == header::CONTENT_LENGTH {
        return take_length(section, name, value);
    }
    section.headers.try_append(name, value).ok()?;
    Some(())
}

/// Repeated `content-length` fields must agree (RFC 9110 section 8.6).
fn take_length(section: &mut Section, name: HeaderName, value: HeaderValue) -> Option<()> {
    let text = value.to_str().ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length = text.parse().ok()?;
    if section.length.is_some_and(|known| known != length) {
        return None;
    }
    section.length = Some(length);
    section.headers.try_insert(name, value).ok()?;
    Some(())
}

/// Reads trailers: a section without pseudo-header fields (RFC 9114 section 4.3).
pub(crate) fn trailers(block: &[u8], limits: Limits) -> Result<HeaderMap, Refusal> {
    let section = read(block, limits)?;
    if section.pseudo.is_empty() { Ok(section.headers) } else { Err(Refusal::Malformed) }
}

/// Writes a section and counts its size as the peer's limit does.
pub(crate) struct Writer {
    pub(crate) block: Vec<u8>,
    pub(crate) size: u64,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let mut block = Vec::with_capacity(256);
        qpack::start(&mut block);
        Self { block, size: 0 }
    }

    pub(crate) fn field(&mut self, name: &str, value: &[u8]) {
        self.size += (name.len() + value.len() + 32) as u64;
        qpack::encode(name.as_bytes(), value, &mut self.block);
    }

    pub(crate) fn fields(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.field(name.as_str(), value.as_bytes());
        }
    }
}
