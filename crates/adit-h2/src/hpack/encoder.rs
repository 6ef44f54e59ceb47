//! Fields to header blocks.

use adit_http::compression::{integer, put_string};
use bytes::{BufMut, BytesMut};
use http::header::{HeaderName, HeaderValue};

use super::fields::{Pseudo, static_index};
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD};

mod table;

use table::{Found, Key, Table};

/// The largest table we keep, whatever the peer allows.
const OWN_TABLE_SIZE: u32 = DEFAULT_TABLE_SIZE;
/// A cookie shorter than this can be guessed octet by octet (RFC 7541 section 7.1.3; nghttp2 and Envoy draw the same line).
const SHORT_COOKIE: usize = 20;

/// The static indices of names whose values are not worth an entry: another one in nearly every message.
const CHANGING: u64 = bits(&[AGE, CONTENT_LENGTH, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION, SET_COOKIE]);
/// Those whose values must not be compressed with others' anywhere (RFC 7541 section 7.1.3).
const SECRET: u64 = bits(&[AUTHORIZATION, PROXY_AUTHORIZATION]);

const AUTHORITY: u8 = 1;
const METHOD: u8 = 2;
const PATH: u8 = 4;
const SCHEME: u8 = 6;
const STATUS: u8 = 8;
const ACCEPT_ENCODING: u8 = 16;
const AGE: u8 = 21;
const AUTHORIZATION: u8 = 23;
const CONTENT_LENGTH: u8 = 28;
const COOKIE: u8 = 32;
const ETAG: u8 = 34;
const HOST: u8 = 38;
const IF_MODIFIED_SINCE: u8 = 40;
const IF_NONE_MATCH: u8 = 41;
const LOCATION: u8 = 46;
const PROXY_AUTHORIZATION: u8 = 49;
const SET_COOKIE: u8 = 55;

const fn bits(indices: &[u8]) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < indices.len() {
        bits |= 1 << indices[at];
        at += 1;
    }
    bits
}

/// Whether a field goes into the table (RFC 7541 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Yes,
    No,
    Never,
}

/// Writes the header blocks of one direction of a connection.
///
/// A block is [`Encoder::begin`], then its pseudo-header fields, then the others; nothing else is asked of the encoder in
/// between. Strings go in Huffman code where that is shorter. The table holds copies: it pins nobody's buffers.
#[derive(Debug, Default)]
pub struct Encoder {
    table: Table,
    /// The smallest size of the table since the last block, if it changed (RFC 7541 section 4.2).
    resized: Option<u32>,
}

impl Encoder {
    /// The peer's SETTINGS_HEADER_TABLE_SIZE, in octets: our table is no larger, nor than 4,096 octets.
    pub fn set_max_table_size(&mut self, size: u32) {
        let size = size.min(OWN_TABLE_SIZE);
        if size != self.table.max() {
            self.resized = Some(self.resized.map_or(size, |smallest| smallest.min(size)));
            self.table.resize(size);
        }
    }

    /// Begins a block: the peer learns of a new size of the table.
    pub fn begin(&mut self, out: &mut BytesMut) {
        if let Some(smallest) = self.resized.take() {
            if smallest < self.table.max() {
                integer::put(0x20, 0x1f, u64::from(smallest), out);
            }
            integer::put(0x20, 0x1f, u64::from(self.table.max()), out);
        }
    }

    /// A pseudo-header field.
    pub fn pseudo(&mut self, name: Pseudo, value: &[u8], out: &mut BytesMut) {
        if let Some(index) = static_pseudo(name, value) {
            return out.put_u8(0x80 | index);
        }
        let index = match name {
            Pseudo::Authority => AUTHORITY,
            Pseudo::Method => METHOD,
            Pseudo::Path => PATH,
            Pseudo::Scheme => SCHEME,
            Pseudo::Status => STATUS,
            Pseudo::Protocol => return self.put(Key::named(name.as_str()), Indexing::Yes, value, out),
        };
        let indexing = if name == Pseudo::Path { Indexing::No } else { Indexing::Yes };
        self.put(Key::of_static(index, name.as_str().len()), indexing, value, out);
    }

    /// Any other field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
        let (index, text) = (static_index(name), value.as_bytes());
        if index == 0 {
            let indexing = if value.is_sensitive() { Indexing::Never } else { Indexing::Yes };
            return self.put(Key::named(name.as_str()), indexing, text, out);
        }
        let secret = SECRET >> index & 1 != 0 || index == COOKIE && text.len() < SHORT_COOKIE;
        let indexing = if secret || value.is_sensitive() {
            Indexing::Never
        } else if CHANGING >> index & 1 != 0 {
            Indexing::No
        } else if index == ACCEPT_ENCODING && text == b"gzip, deflate" {
            return out.put_u8(0x80 | ACCEPT_ENCODING);
        } else {
            Indexing::Yes
        };
        self.put(Key::of_static(index, name.as_str().len()), indexing, text, out);
    }

    fn put(&mut self, key: Key<'_>, indexing: Indexing, value: &[u8], out: &mut BytesMut) {
        let found = match indexing {
            Indexing::Yes => self.table.find(key, value),
            // The static table knows the name.
            _ if key.index > 0 => Found::default(),
            _ => self.table.find_name(key),
        };
        if let Some(index) = found.field {
            return integer::put(0x80, 0x7f, u64::from(index), out);
        }
        let size = ENTRY_OVERHEAD as usize + key.name_len() + value.len();
        // One entry must not drive most others out.
        let indexed = indexing == Indexing::Yes && !found.often && size <= self.table.max() as usize / 4 * 3;
        let (flags, mask) = match indexing {
            Indexing::Never => (0x10, 0x0f),
            _ if indexed => (0x40, 0x3f),
            _ => (0x00, 0x0f),
        };
        let index = if key.index > 0 { u32::from(key.index) } else { found.name.unwrap_or(0) };
        integer::put(flags, mask, u64::from(index), out);
        if index == 0 {
            put_string(0, 0x7f, key.name.as_bytes(), out);
        }
        put_string(0, 0x7f, value, out);
        if indexed {
            self.table.insert(key, value, size as u16);
        }
    }
}

/// The index of the entry of the static table with this value.
fn static_pseudo(name: Pseudo, value: &[u8]) -> Option<u8> {
    Some(match (name, value) {
        (Pseudo::Method, b"GET") => 2,
        (Pseudo::Method, b"POST") => 3,
        (Pseudo::Path, b"/") => 4,
        (Pseudo::Path, b"/index.html") => 5,
        (Pseudo::Scheme, b"http") => 6,
        (Pseudo::Scheme, b"https") => 7,
        (Pseudo::Status, b"200") => 8,
        (Pseudo::Status, b"204") => 9,
        (Pseudo::Status, b"206") => 10,
        (Pseudo::Status, b"304") => 11,
        (Pseudo::Status, b"400") => 12,
        (Pseudo::Status, b"404") => 13,
        (Pseudo::Status, b"500") => 14,
        _ => return None,
    })
}

#[cfg(test)]
impl Encoder {
    /// The sizes of the entries, the newest first.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.table.sizes()
    }
}
