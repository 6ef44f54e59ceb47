//! Heads and bodies to bytes (RFC 9112 sections 3 to 7). Pure: no socket, no clock.

use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError, hop_by_hop};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::config::{ClientConfig, HeaderCase};
use crate::fields;
use crate::refuse::Refusal;
use crate::scan;

/// What a head has of the fields that its form depends on.
struct Has<'m> {
    map: &'m HeaderMap,
    length: Values<'m>,
    connection: Values<'m>,
    upgrade: Values<'m>,
}

impl<'m> Has<'m> {
    /// Writes the fields of a head, and finds in the same pass what the rest of it depends on: each look-up of a field that is
    /// not there would cost as much. Those that the codec writes itself, or that belong to another hop, are left out, and the
    /// length where it means nothing.
    fn written(out: &mut Vec<u8>, case: HeaderCase, map: &'m HeaderMap, with_length: bool) -> Self {
        let none = Values { first: None, count: 0 };
        let mut has = Self { map, length: none, connection: none, upgrade: none };
        for (name, value) in map {
            let name = name.as_str();
            match name {
                "connection" => has.connection.add(value),
                "upgrade" => has.upgrade.add(value),
                "host" | "keep-alive" | "proxy-connection" | "transfer-encoding" => {}
                "content-length" => {
                    has.length.add(value);
                    if with_length {
                        field(out, case, name, value.as_bytes());
                    }
                }
                _ => field(out, case, name, value.as_bytes()),
            }
        }
        has
    }

    /// The one Content-Length.
    fn length_of(&self) -> Result<Option<u64>, Refusal> {
        match (self.length.first, self.length.count) {
            (None, _) => Ok(None),
            (Some(value), 1) => fields::parse_length(value.as_bytes()).map(Some).ok_or(Refusal::CODEC),
            (Some(_), _) => Err(Refusal::CODEC),
        }
    }

    /// Whether `connection` names this.
    fn connection_names(&self, option: &str) -> bool {
        match (self.connection.first, self.connection.count) {
            (None, _) => false,
            // As a rule it names one thing.
            (Some(value), 1) if value.as_bytes().eq_ignore_ascii_case(option.as_bytes()) => true,
            _ => hop_by_hop::has_token(self.map, &header::CONNECTION, option),
        }
    }
}

/// The values of one field: the first, and how many there are.
#[derive(Clone, Copy)]
struct Values<'m> {
    first: Option<&'m HeaderValue>,
    count: usize,
}

impl<'m> Values<'m> {
    fn add(&mut self, value: &'m HeaderValue) {
        self.first.get_or_insert(value);
        self.count += 1;
    }

    fn any(&self) -> bool {
        self.count > 0
    }

    /// Writes them.
    fn write(&self, out: &mut Vec<u8>, case: HeaderCase, map: &HeaderMap, name: &HeaderName) {
        match self.first {
            Some(only) if self.count == 1 => field(out, case, name.as_str(), only.as_bytes()),
            Some(_) => map.get_all(name).iter().for_each(|value| field(out, case, name.as_str(), value.as_bytes())),
            None => {}
        }
    }
}

/// What delimits the body that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    /// There is none.
    Nothing,
    /// Exactly this many bytes.
    Length(u64),
    Chunked,
    /// The end of the connection ends a response.
    UntilClose,
    /// A tunnel.
    Raw,
    /// Bytes are given and not sent: the answer to HEAD, and answers that have no body.
    Discard,
}

/// Writes a field.
fn field(out: &mut Vec<u8>, case: HeaderCase, name: &str, value: &[u8]) {
    match case {
        HeaderCase::Lower => out.extend_from_slice(name.as_bytes()),
        HeaderCase::ProperWords => {
            let mut start = true;
            out.extend(name.bytes().map(|byte| {
                let byte = if start { byte.to_ascii_uppercase() } else { byte };
                start = !byte.is_ascii_alphanumeric();
                byte
            }));
        }
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a chunk.
pub(crate) fn chunk_head(out: &mut Vec<u8>, length: usize) {
    let digits = length.max(1).ilog2() / 4 + 1;
    for place in (0..digits).rev() {
        let digit = (length >> (place * 4)) & 15;
        out.extend_from_slice(b"0123456789abcdef".get(digit..=digit).unwrap_or_default());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk, trailers and the empty line.
pub(crate) fn last_chunk(out: &mut Vec<u8>, case: HeaderCase, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        let mut trailers = trailers.clone();
        fields::clean_trailers(&mut trailers);
        for (name, value) in &trailers {
            field(out, case, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What a request asks, as far as its answer's form depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answering {
    pub(crate) upgrade: bool,
    pub(crate) connect: bool,
    pub(crate) head: bool,
    /// HTTP/1.0.
    pub(crate) old: bool,
    /// The connection may be kept.
    pub(crate) keep: bool,
}

/// How a response goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) body: Out,
    /// The connection may carry another request.
    pub(crate) keep: bool,
}

/// Writes a final response head, or a 101; decides what delimits its body.
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    end: bool,
    to: Answering,
    case: HeaderCase,
) -> Result<Sent, StreamError> {
    let bad = StreamError::Local(ErrorCode::Internal);
    let status = head.status;
    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
    if status.is_informational() && !(switched && to.upgrade) {
        return Err(bad);
    }
    let tunnel = switched || (to.connect && status.is_success());
    let start = out.len();
    status_line(out, status, to.old);
    let has = Has::written(out, case, &head.headers, !tunnel && status != StatusCode::NO_CONTENT);
    let Some(body) = (if tunnel { Some(Out::Raw) } else { response_body(head, &has, end, to) }) else {
        out.truncate(start);
        return Err(bad);
    };
    let told_to_close = has.connection_names("close");
    let keep = to.keep && !tunnel && !to.upgrade && !to.connect && !told_to_close && body != Out::UntilClose;
    if switched {
        switch_fields(out, case, &has);
    } else if !tunnel {
        if to.upgrade && has.upgrade.any() {
            // What the origin would switch to instead, a 426 above all (RFC 9110 section 15.5.22).
            has.upgrade.write(out, case, has.map, &header::UPGRADE);
            field(out, case, "connection", b"upgrade, close");
        } else if !keep {
            field(out, case, "connection", b"close");
        } else if to.old {
            field(out, case, "connection", b"keep-alive");
        }
    }
    match body {
        Out::Nothing if !has.length.any() && may_have_body(status) && !to.head => {
            field(out, case, "content-length", b"0")
        }
        Out::Chunked => field(out, case, "transfer-encoding", b"chunked"),
        // As a GET would be answered (RFC 9112 section 6.1).
        Out::Nothing | Out::Discard if to.head && !to.old && !has.length.any() && may_have_body(status) => {
            field(out, case, "transfer-encoding", b"chunked");
        }
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok(Sent { body, keep })
}

fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

fn response_body(head: &ResponseHead, has: &Has<'_>, end: bool, to: Answering) -> Option<Out> {
    let length = has.length_of().ok()?;
    if to.head || !may_have_body(head.status) {
        return Some(if end { Out::Nothing } else { Out::Discard });
    }
    match (end, length) {
        (true, None | Some(0)) => Some(Out::Nothing),
        (true, Some(_)) => None,
        (false, Some(length)) => Some(Out::Length(length)),
        (false, None) if to.old => Some(Out::UntilClose),
        (false, None) => Some(Out::Chunked),
    }
}

/// The fields of a 101: what the answer says of the switch, and `connection: upgrade` in any case.
fn switch_fields(out: &mut Vec<u8>, case: HeaderCase, has: &Has<'_>) {
    has.upgrade.write(out, case, has.map, &header::UPGRADE);
    if has.connection_names("upgrade") {
        has.connection.write(out, case, has.map, &header::CONNECTION);
    } else {
        field(out, case, "connection", b"upgrade");
    }
}

/// `old` for a client of HTTP/1.0.
fn status_line(out: &mut Vec<u8>, status: StatusCode, old: bool) {
    if status == StatusCode::OK && !old {
        // As most are.
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The size of a head that was written, and of the fields in it.
pub(crate) fn measure(head: &[u8]) -> (usize, usize) {
    let line = scan::line_break(head, 0).map_or(0, |at| at + 2);
    (head.len(), head.len().saturating_sub(line + 2))
}

/// Writes an interim response (1xx but 101).
pub(crate) fn interim(out: &mut Vec<u8>, head: &ResponseHead, case: HeaderCase) -> Result<(), StreamError> {
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(StreamError::Local(ErrorCode::Internal));
    }
    status_line(out, head.status, false);
    Has::written(out, case, &head.headers, false);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes the codec's own answer to a head that it did not take.
pub(crate) fn refusal(out: &mut Vec<u8>, status: StatusCode, case: HeaderCase) {
    status_line(out, status, false);
    field(out, case, "content-length", b"0");
    field(out, case, "connection", b"close");
    out.extend_from_slice(b"\r\n");
}

/// Writes an answer to a head that was not taken, as somebody else words it.
pub(crate) fn worded(out: &mut Vec<u8>, head: &ResponseHead, body: &[u8], case: HeaderCase) {
    let to = Answering { upgrade: false, connect: false, head: false, old: false, keep: false };
    let before = out.len();
    match response(out, head, body.is_empty(), to, case) {
        Ok(_) => out.extend_from_slice(body),
        Err(_) => {
            out.truncate(before);
            refusal(out, head.status, case);
        }
    }
}

/// Writes a request head; decides what delimits its body. The target of a CONNECT is also its `host` (RFC 9112 section
/// 3.2).
pub(crate) fn request(
    out: &mut Vec<u8>,
    head: &RequestHead,
    end: bool,
    cfg: &ClientConfig,
) -> Result<Out, StreamError> {
    let bad = StreamError::Local(ErrorCode::Internal);
    let case = cfg.header_case;
    let start = out.len();
    let authority = request_line(out, head, cfg).ok_or(bad)?;
    field(out, case, "host", authority.as_bytes());
    let has = Has::written(out, case, &head.headers, !matches!(head.kind, RequestKind::Connect(_)));
    let Some(body) = request_body(head, &has, end) else {
        out.truncate(start);
        return Err(bad);
    };
    if let RequestKind::Upgrade(token) = &head.kind {
        if !has.upgrade.any() {
            field(out, case, "upgrade", token.as_str().as_bytes());
        }
        switch_fields(out, case, &has);
    }
    // As Envoy: with every method but those that have no body as a rule.
    let must_say =
        !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT);
    match body {
        Out::Nothing if must_say && !has.length.any() => {
            field(out, case, "content-length", b"0");
        }
        Out::Chunked => field(out, case, "transfer-encoding", b"chunked"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok(body)
}

/// Writes the request line and gives the authority; `None`, and nothing is written, where there is no target.
fn request_line<'h>(out: &mut Vec<u8>, head: &'h RequestHead, cfg: &ClientConfig) -> Option<&'h str> {
    let (authority, target) = match (&head.kind, &head.path) {
        (RequestKind::Connect(target), _) => (Some(target), target.as_str()),
        (_, path) => (head.authority.as_ref(), path.as_ref()?.as_str()),
    };
    let authority = authority.map_or("", |authority| authority.as_str());
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    if cfg.send_fully_qualified_url && !authority.is_empty() && target.starts_with('/') {
        out.extend_from_slice(head.scheme.as_str().as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(authority.as_bytes());
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    Some(authority)
}

fn request_body(head: &RequestHead, has: &Has<'_>, end: bool) -> Option<Out> {
    if head.kind.is_tunnel() {
        return Some(Out::Raw);
    }
    match (end, has.length_of().ok()?) {
        (true, None | Some(0)) => Some(Out::Nothing),
        (true, Some(_)) => None,
        (false, Some(length)) => Some(Out::Length(length)),
        (false, None) => Some(Out::Chunked),
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
