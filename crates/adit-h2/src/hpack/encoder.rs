//! Fields to header blocks.

use adit_http::compression::{integer, put_string};
use bytes::BytesMut;
use http::header::{HeaderName, HeaderValue};

use super::fields::{Pseudo, static_index};
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, STATIC_LEN};

mod table;

use table::{Key, Table};

/// The largest table we keep, whatever the peer allows.
const OWN_TABLE_SIZE: u32 = DEFAULT_TABLE_SIZE;
/// A cookie shorter than this can be guessed octet by octet (RFC 7541 section 7.1.3; nghttp2 and Envoy draw the same line).
const SHORT_COOKIE: usize = 20;

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

/// Whether a field goes into the table (RFC 7541 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Yes,
    /// Another value in nearly every message.
    No,
    /// Not to be compressed with others' values anywhere (section 7.1.3).
    Never,
    /// That depends on the value.
    Cookie,
}

/// By the names' static indices.
static INDEXING: [Indexing; STATIC_LEN + 1] = {
    let mut all = [Indexing::Yes; STATIC_LEN + 1];
    let changing = [PATH, AGE, CONTENT_LENGTH, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION, SET_COOKIE];
    let mut at = 0;
    while at < changing.len() {
        all[changing[at] as usize] = Indexing::No;
        at += 1;
    }
    all[AUTHORIZATION as usize] = Indexing::Never;
    all[PROXY_AUTHORIZATION as usize] = Indexing::Never;
    all[COOKIE as usize] = Indexing::Cookie;
    all
};

fn indexing(index: u8, value: &[u8]) -> Indexing {
    match INDEXING.get(usize::from(index)).copied().unwrap_or(Indexing::No) {
        Indexing::Cookie if value.len() < SHORT_COOKIE => Indexing::Never,
        Indexing::Cookie => Indexing::Yes,
        other => other,
    }
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
            return out.extend_from_slice(&[0x80 | index]);
        }
        let index = match name {
            Pseudo::Authority => AUTHORITY,
            Pseudo::Method => METHOD,
            Pseudo::Path => PATH,
            Pseudo::Scheme => SCHEME,
            Pseudo::Status => STATUS,
            Pseudo::Protocol => return self.put(&Key::named(name.as_str()), Indexing::Yes, value, out),
        };
        match self.table.newest(index, value) {
            Some(index @ 0..0x7f) => out.extend_from_slice(&[0x80 | index as u8]),
            _ => self.put(&Key::of_static(index), indexing(index, value), value, out),
        }
    }

    /// Any other field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
        let (index, text) = (static_index(name), value.as_bytes());
        if index == 0 {
            let indexing = if value.is_sensitive() { Indexing::Never } else { Indexing::Yes };
            return self.put(&Key::named(name.as_str()), indexing, text, out);
        }
        match self.table.newest(index, text) {
            // Most fields were sent before.
            Some(index @ 0..0x7f) if !value.is_sensitive() => out.extend_from_slice(&[0x80 | index as u8]),
            _ => self.known(index, value, out),
        }
    }

    /// A field whose name has a static index.
    fn known(&mut self, index: u8, value: &HeaderValue, out: &mut BytesMut) {
        let text = value.as_bytes();
        let indexing = if value.is_sensitive() { Indexing::Never } else { indexing(index, text) };
        if index == ACCEPT_ENCODING && text == b"gzip, deflate" && indexing == Indexing::Yes {
            return out.extend_from_slice(&[0x80 | ACCEPT_ENCODING]);
        }
        self.put(&Key::of_static(index), indexing, text, out);
    }

    #[inline(never)]
    fn put(&mut self, key: &Key<'_>, indexing: Indexing, value: &[u8], out: &mut BytesMut) {
        let flags = match indexing {
            Indexing::Yes => match self.table.find(key, value) {
                Some(index) => return integer::put(0x80, 0x7f, u64::from(index), out),
                None => 0,
            },
            Indexing::Never => 0x10,
            Indexing::No | Indexing::Cookie => 0,
        };
        let (name, often) = self.table.find_name(key);
        let size = ENTRY_OVERHEAD as usize + key.name_len() + value.len();
        // One entry must not drive most others out.
        if indexing != Indexing::Yes || often || size > self.table.max() as usize / 4 * 3 {
            literal(flags, 0x0f, key, name, value, out);
        } else {
            literal(0x40, 0x3f, key, name, value, out);
            self.table.insert(key, value, size as u16);
        }
    }
}

/// A literal whose name the static table knows, or `name` is the index of, or neither.
fn literal(flags: u8, mask: u8, key: &Key<'_>, name: Option<u32>, value: &[u8], out: &mut BytesMut) {
    let index = if key.index > 0 { u32::from(key.index) } else { name.unwrap_or(0) };
    integer::put(flags, mask, u64::from(index), out);
    if index == 0 {
        put_string(0, 0x7f, key.name.as_bytes(), out);
    }
    put_string(0, 0x7f, value, out);
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
