//! The parser and the serializer without a connection: for property tests, differential tests and fuzz targets.

use adit_http::{RequestHead, RequestKind, ResponseHead, Scheme, StreamError};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::config::{ClientConfig, HeaderCase, ServerConfig};
use crate::decode::{Body, Decoder, Limits, Step};
use crate::encode::{self, Answering};
use crate::refuse::Refusal;
use crate::response::Asked;
use crate::scan::{Extent, Scanner};
use crate::server::find_head;
use crate::{request, response};

/// What came of some bytes.
#[derive(Debug)]
pub enum Outcome<H> {
    /// A head that is not complete yet.
    Partial,
    /// A head that is not taken: the status and Envoy's detail.
    Refused(u16, &'static str),
    /// A head and what followed it.
    Taken(Message<H>),
}

/// A message.
#[derive(Debug)]
pub struct Message<H> {
    /// Its head.
    pub head: H,
    /// The bytes of its body, or of the tunnel.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
    /// Whether the body ended before the input did; an error if it broke a rule, or was cut short by the input's end.
    pub end: Result<bool, StreamError>,
    /// Input behind the message.
    pub left: usize,
}

/// Parses a request that arrives in these pieces, after which the connection ends.
pub fn request(pieces: &[&[u8]], cfg: &ServerConfig) -> Outcome<RequestHead> {
    let limits = Limits { max_bytes: cfg.max_head_bytes, max_fields: cfg.max_headers, keep: cfg.enable_trailers };
    message(pieces, cfg.max_head_bytes, limits, |head, lines| {
        request::parse(head, lines, cfg, Scheme::Http).map(|request| (request.head, request.body))
    })
}

/// Parses the answer to a request of this kind, as [`request()`] does; `head` where the method was HEAD.
pub fn response(pieces: &[&[u8]], cfg: &ClientConfig, kind: RequestKind, head: bool) -> Outcome<ResponseHead> {
    let limits = Limits { max_bytes: cfg.max_head_bytes, max_fields: cfg.max_headers, keep: cfg.enable_trailers };
    let asked = Asked { kind, head };
    message(pieces, cfg.max_head_bytes, limits, |head, lines| {
        response::parse(head, lines, cfg, &asked).map(|response| (response.head, response.body))
    })
}

/// The bytes of a request head; `None` for one that cannot be sent.
pub fn write_request(head: &RequestHead, end: bool, cfg: &ClientConfig) -> Option<Bytes> {
    let mut out = Vec::new();
    encode::request(&mut out, head, end, cfg).ok()?;
    Some(out.into())
}

/// The bytes of the head of an answer to `to`; `None` for one that cannot be sent.
pub fn write_response(head: &ResponseHead, end: bool, to: &RequestHead) -> Option<Bytes> {
    let mut out = Vec::new();
    encode::response(&mut out, head, end, Answering::to(to, true), HeaderCase::Lower).ok()?;
    Some(out.into())
}

fn message<H>(
    pieces: &[&[u8]],
    max: usize,
    limits: Limits,
    parse: impl Fn(&Bytes, usize) -> Result<(H, Body), Refusal>,
) -> Outcome<H> {
    let mut pieces = pieces.iter();
    let (mut buf, mut scanner) = (BytesMut::new(), Scanner::default());
    let refused = |refusal: Refusal| Outcome::Refused(refusal.status.as_u16(), refusal.details);
    let Extent { length, lines } = loop {
        match find_head(&mut scanner, &buf, max) {
            Ok(Some(extent)) => break extent,
            Ok(None) => {}
            Err(refusal) => return refused(refusal),
        }
        match pieces.next() {
            Some(piece) => buf.extend_from_slice(piece),
            None => return Outcome::Partial,
        }
    };
    let (head, body) = match parse(&buf.split_to(length).freeze(), lines) {
        Ok(parsed) => parsed,
        Err(refusal) => return refused(refusal),
    };
    let mut decoder = Decoder::new(body, limits);
    let mut bytes = Vec::new();
    let end = loop {
        match decoder.step(&mut buf, usize::MAX) {
            Ok(Step::Data(data)) => bytes.extend_from_slice(&data),
            Ok(Step::End) => break Ok(true),
            Err(error) => break Err(error),
            Ok(Step::More) => match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None => break decoder.end_of_input().map(|()| false),
            },
        }
    };
    let left = if end.is_ok() { buf.len() + pieces.map(|piece| piece.len()).sum::<usize>() } else { 0 };
    Outcome::Taken(Message { head, body: bytes, trailers: decoder.take_trailers(), end, left })
}
