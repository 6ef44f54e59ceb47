//! The head of a response, from bytes to the model.

use adit_http::{RequestKind, ResponseHead, hop_by_hop};
use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{StatusCode, Version};

use crate::config::ClientConfig;
use crate::decode::Body;
use crate::fields::{self, Framing, Said};
use crate::refuse::Refusal;
use crate::scan;
use crate::section::{self, Section, Whose};

/// The status line of most.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// What was asked, as far as the answer's meaning depends on it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) kind: RequestKind,
    pub(crate) head: bool,
}

/// A response that was taken, and what it means for its connection.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    /// More heads follow.
    pub(crate) interim: bool,
    /// The connection may carry another request after this answer.
    pub(crate) keep_alive: bool,
    /// See [`fields::size`].
    pub(crate) fields: usize,
}

/// Parses a complete head of about so many lines, its empty line included.
pub(crate) fn parse(head: &Bytes, lines: usize, cfg: &ClientConfig, asked: &Asked) -> Result<Response, Refusal> {
    let (code, minor, start) = status_line(head)?;
    let section = section::parse(head, start, lines, cfg.max_headers, Whose::Response)?;
    let status = StatusCode::from_u16(code).ok().filter(|_| code < 600).ok_or(Refusal::CODEC)?;
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    assemble(status, version, section, cfg, asked)
}

/// The status, the minor version, and where the fields start.
fn status_line(head: &[u8]) -> Result<(u16, u8, usize), Refusal> {
    if head.starts_with(OK) {
        return Ok((200, 1, OK.len()));
    }
    let start = scan::line_break(head, 0).ok_or(Refusal::CODEC)? + 2;
    let mut parsed = httparse::Response::new(&mut []);
    // The line alone; that fields are missing is what it says then.
    let status = parsed.parse(head.get(..start).ok_or(Refusal::CODEC)?)?;
    match (status, parsed.code, parsed.version) {
        (httparse::Status::Partial, Some(code), Some(minor)) => Ok((code, minor, start)),
        _ => Err(Refusal::CODEC),
    }
}

fn assemble(
    status: StatusCode,
    version: Version,
    section: Section,
    cfg: &ClientConfig,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let Section { mut map, said, size: fields } = section;
    let said = &said;
    let old = version == Version::HTTP_10;
    let mut alive = said.keep_alive(old);
    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
    let interim = status.is_informational() && !switched;
    let body = if switched {
        let framing = said.framing(&mut map, true)?;
        if old || !is_wanted_switch(&map, said, asked) || !matches!(framing, Framing::Unsaid | Framing::Length(0)) {
            return Err(Refusal::CODEC);
        }
        unframe(&mut map, said);
        Body::Raw
    } else if interim {
        must_have_no_framing(said)?;
        unframe(&mut map, said);
        Body::Empty
    } else if matches!(asked.kind, RequestKind::Connect(_)) && status.is_success() {
        unframe(&mut map, said);
        Body::Raw
    } else {
        let framing = said.framing(&mut map, cfg.allow_chunked_length)?;
        if old && framing == Framing::Chunked {
            return Err(Refusal::TRANSFER_ENCODING);
        }
        if status == StatusCode::NO_CONTENT {
            must_have_no_framing(said)?;
            unframe(&mut map, said);
        }
        let none = asked.head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        match framing {
            _ if none => Body::Empty,
            Framing::Length(0) => Body::Empty,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked,
            Framing::Unsaid => Body::UntilClose,
        }
    };
    alive &= !matches!(body, Body::Raw | Body::UntilClose);
    let offers = said.upgrades > 0 && matches!(asked.kind, RequestKind::Upgrade(_)) && !switched && !interim;
    let upgrade = if offers { map.get(header::UPGRADE).cloned() } else { None };
    if said.must_strip(switched) {
        hop_by_hop::strip(&mut map, switched);
    }
    if let Some(upgrade) = upgrade {
        // The client that asked to switch may want to know (RFC 9110 section 15.5.22).
        map.insert(header::UPGRADE, upgrade);
    }
    Ok(Response { head: ResponseHead { status, headers: map, version }, body, interim, keep_alive: alive, fields })
}

/// What [`fields::size`] says of a head that was not taken; 0 where it is no message at all.
pub(crate) fn refused_fields(head: &[u8], refusal: &Refusal, max: usize) -> usize {
    if refusal.details == Refusal::CODEC.details {
        return 0;
    }
    let mut table = vec![httparse::EMPTY_HEADER; fields::at_most(max, head)];
    let mut parsed = httparse::Response::new(&mut table);
    let complete = parsed.parse(head).is_ok_and(|status| status.is_complete());
    if complete { fields::size(parsed.headers) } else { 0 }
}

/// A 1xx or a 204 that announces a body (RFC 9110 section 8.6, RFC 9112 section 6.1): its sender may have one follow, and we
/// would take that for the next answer. A length of 0 is no harm.
fn must_have_no_framing(said: &Said) -> Result<(), Refusal> {
    if said.codings > 0 {
        return Err(Refusal::CODING_NOT_ALLOWED);
    }
    if matches!(said.length()?, None | Some(0)) { Ok(()) } else { Err(Refusal::LENGTH_NOT_ALLOWED) }
}

/// Framing fields of an answer that has no framing mean nothing (RFC 9110 sections 8.6 and 9.3.6).
fn unframe(map: &mut HeaderMap, said: &Said) {
    if said.lengths > 0 {
        map.remove(header::CONTENT_LENGTH);
    }
    if said.codings > 0 {
        map.remove(header::TRANSFER_ENCODING);
    }
}

/// A 101 counts only as the answer to an upgrade, with `connection: upgrade`, and to a protocol that was offered
/// (RFC 9110 section 7.8).
fn is_wanted_switch(map: &HeaderMap, said: &Said, asked: &Asked) -> bool {
    let RequestKind::Upgrade(offered) = &asked.kind else { return false };
    if !said.announces_upgrade() {
        return false;
    }
    let mut any = false;
    for value in map.get_all(header::UPGRADE) {
        let Ok(value) = value.to_str() else { return false };
        for token in tokens(value) {
            if !tokens(offered.as_str()).any(|offer| offer.eq_ignore_ascii_case(token)) {
                return false;
            }
            any = true;
        }
    }
    any
}

fn tokens(list: &str) -> impl Iterator<Item = &[u8]> {
    hop_by_hop::tokens(list.as_bytes()).filter(|token| !token.is_empty())
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
