//! The bytes behind a head, taken out of their framing (RFC 9112 sections 6 and 7). Pure: no socket, no clock.

use std::mem;

use adit_http::StreamError;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::fields;
use crate::refuse::Refusal;
use crate::scan::{Extent, Scan, Scanner};
use crate::section::{self, Section, Whose};

/// Chunk extensions taken in one body, in bytes: nobody uses them but to waste a recipient's time.
const MAX_EXTENSIONS: usize = 16 << 10;
/// Hexadecimal digits of a chunk size, leading zeros included.
const MAX_SIZE_DIGITS: usize = 16;

/// How the bytes behind a head are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Empty,
    Length(u64),
    Chunked,
    /// Up to the end of the connection, as a response.
    UntilClose,
    /// Up to the end of the connection, as a tunnel.
    Raw,
}

/// What a look at the buffer gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Bytes of the body: not empty.
    Data(Bytes),
    /// More input is needed.
    More,
    /// The body is over.
    End,
}

/// Where in the body the decoder stands.
///
/// ```text
/// Length(n) -----------------------------------------------> Done
/// Size -> Space -> Extension -> Data(n) -> DataEnd -> Size ..
///    \--------(size 0)--------------------> Trailers ------> Done
/// Open (until close, raw) --(end of input)-----------------> Done
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Size {
        size: u64,
        digits: u8,
    },
    /// Spaces behind the size.
    Space(u64),
    Extension {
        size: u64,
        cr: bool,
    },
    /// The CR of a size line was seen.
    SizeEnd(u64),
    Data(u64),
    DataEnd {
        cr: bool,
    },
    Trailers,
    Open,
    Done,
}

/// Decodes one body.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    extensions: u32,
    scanner: Scanner,
    limits: Limits,
    trailers: Option<Box<HeaderMap>>,
    /// See [`fields::size`].
    trailer_fields: u32,
}

/// Bounds of a trailer section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In bytes.
    pub(crate) max_bytes: usize,
    /// In fields.
    pub(crate) max_fields: usize,
    /// Trailers are given out; otherwise they are checked and dropped.
    pub(crate) keep: bool,
}

impl Decoder {
    pub(crate) fn new(body: Body, limits: Limits) -> Self {
        let state = match body {
            Body::Empty | Body::Length(0) => State::Done,
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Size { size: 0, digits: 0 },
            Body::UntilClose | Body::Raw => State::Open,
        };
        Self { state, extensions: 0, scanner: Scanner::default(), limits, trailers: None, trailer_fields: 0 }
    }

    /// Whether the body is known to be over.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Trailers, once done.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|map| *map)
    }

    /// The bytes of trailer fields that were taken since the last call.
    pub(crate) fn take_trailer_fields(&mut self) -> usize {
        mem::take(&mut self.trailer_fields) as usize
    }

    /// Whether there are trailers that nobody took.
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// With an empty buffer: how many bytes the input may give straight to the caller, past the decoder; `None` when the
    /// decoder has to see them.
    pub(crate) fn direct(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Open => Some(u64::MAX),
            _ => None,
        }
    }

    /// Bytes went past the decoder.
    pub(crate) fn passed(&mut self, n: usize) {
        if let State::Length(left) = self.state {
            let left = left.saturating_sub(n as u64);
            self.state = if left == 0 { State::Done } else { State::Length(left) };
        }
    }

    /// The input ended.
    pub(crate) fn end_of_input(&mut self) -> Result<(), StreamError> {
        match self.state {
            State::Open | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(StreamError::Truncated),
        }
    }

    /// Takes the next piece of the body off the front of `buf`, at most `max` bytes of it.
    pub(crate) fn step(&mut self, buf: &mut BytesMut, max: usize) -> Result<Step, StreamError> {
        loop {
            match self.state {
                State::Done => return Ok(Step::End),
                _ if buf.is_empty() => return Ok(Step::More),
                State::Open => return Ok(Step::Data(take(buf, max))),
                State::Length(left) => {
                    let data = take(buf, max.min(usize::try_from(left).unwrap_or(usize::MAX)));
                    self.passed(data.len());
                    return Ok(Step::Data(data));
                }
                State::Data(left) => {
                    let data = take(buf, max.min(usize::try_from(left).unwrap_or(usize::MAX)));
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::DataEnd { cr: false } } else { State::Data(left) };
                    return Ok(Step::Data(data));
                }
                State::Trailers => {
                    if !self.trailer_section(buf)? {
                        return Ok(Step::More);
                    }
                }
                _ => self.line_byte(buf.get_u8())?,
            }
        }
    }

    /// After data: takes framing off the front of `buf`, so that an end that has arrived is known at once.
    pub(crate) fn settle(&mut self, buf: &mut BytesMut) -> Result<(), StreamError> {
        while !buf.is_empty() {
            match self.state {
                State::Done | State::Open | State::Length(_) | State::Data(_) => break,
                State::Trailers => {
                    if !self.trailer_section(buf)? {
                        break;
                    }
                }
                _ => self.line_byte(buf.get_u8())?,
            }
        }
        Ok(())
    }

    /// One byte of a chunk's size line, or of the line end behind its data.
    fn line_byte(&mut self, byte: u8) -> Result<(), StreamError> {
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                if usize::from(digits) >= MAX_SIZE_DIGITS || size >> 59 != 0 {
                    return Err(Refusal::CODEC.error());
                }
                State::Size { size: (size << 4) | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. } | State::Space(size), b';') => State::Extension { size, cr: false },
            (State::Size { size, digits: 1.. } | State::Space(size), b'\r') => State::SizeEnd(size),
            // In front of an extension they must be taken (RFC 9112 section 7.1.1), and some peers fill sizes up with them.
            (State::Size { size, digits: 1.. } | State::Space(size), b'\t' | b' ') => {
                self.count_extension()?;
                State::Space(size)
            }
            (State::SizeEnd(0) | State::Extension { size: 0, cr: true }, b'\n') => {
                self.scanner = Scanner::default();
                State::Trailers
            }
            (State::SizeEnd(size) | State::Extension { size, cr: true }, b'\n') => State::Data(size),
            (State::Extension { size, cr: false }, b'\r') => State::Extension { size, cr: true },
            (State::Extension { size, cr: false }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                State::Extension { size, cr: false }
            }
            (State::DataEnd { cr: false }, b'\r') => State::DataEnd { cr: true },
            (State::DataEnd { cr: true }, b'\n') => State::Size { size: 0, digits: 0 },
            _ => return Err(Refusal::CODEC.error()),
        };
        Ok(())
    }

    /// One more byte that means nothing to us.
    fn count_extension(&mut self) -> Result<(), StreamError> {
        self.extensions += 1;
        if self.extensions as usize > MAX_EXTENSIONS { Err(Refusal::CODEC.error()) } else { Ok(()) }
    }

    /// The trailer section and its empty line; false when it is not complete yet.
    fn trailer_section(&mut self, buf: &mut BytesMut) -> Result<bool, StreamError> {
        let Extent { length, lines } = match self.scanner.scan(buf) {
            Scan::Complete(extent) if extent.length <= self.limits.max_bytes => extent,
            Scan::Partial if buf.len() < self.limits.max_bytes => return Ok(false),
            Scan::BadLine => return Err(Refusal::CODEC.error()),
            _ => return Err(Refusal::HEAD_TOO_LARGE.error()),
        };
        let section = buf.split_to(length).freeze();
        self.state = State::Done;
        if length > 2 {
            let parsed = section::parse(&section, 0, lines, self.limits.max_fields, Whose::Trailers);
            let Section { mut map, size, .. } = parsed.map_err(Refusal::error)?;
            if self.limits.keep {
                self.trailer_fields = u32::try_from(size).unwrap_or(u32::MAX);
            }
            fields::clean_trailers(&mut map);
            if self.limits.keep && !map.is_empty() {
                self.trailers = Some(Box::new(map));
            }
        }
        Ok(true)
    }
}

/// At most `max` bytes from the front; a buffer that is empty then gives its memory up.
fn take(buf: &mut BytesMut, max: usize) -> Bytes {
    if buf.len() <= max.max(1) { mem::take(buf).freeze() } else { buf.split_to(max.max(1)).freeze() }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
