//! What an answer to a request for a tunnel means.

use adit_http::{RequestKind, ResponseHead};
use http::{StatusCode, Version};

/// What was asked of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An upgrade, or an extended CONNECT.
    Upgrade,
    /// A plain CONNECT.
    Connect,
    /// A tunnel whose payload is the body of a POST and of its answer.
    Post,
}

impl Ask {
    /// What a request of this kind asks; `None` for a plain one.
    pub fn of(kind: &RequestKind) -> Option<Self> {
        match kind {
            RequestKind::Plain => None,
            RequestKind::Upgrade(_) => Some(Self::Upgrade),
            RequestKind::Connect(_) => Some(Self::Connect),
        }
    }
}

/// What an answer means. Made by [`judge`] only, so that nothing but a parsed head can be an acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer(Verdict);

impl Answer {
    /// What it means.
    pub fn verdict(self) -> Verdict {
        self.0
    }
}

/// The meaning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not the answer yet: 1xx but 101.
    Interim,
    /// The tunnel stands.
    Accepted,
    /// No tunnel: the answer goes to the client as it is, body included.
    Refused,
    /// Not an answer that may be passed on; a 502 to the client.
    Invalid,
}

/// Judges an answer's head, in canonical form.
///
/// `upstream` is the version of the hop the answer came by, `downstream` that of the client's hop; `None` where the client
/// speaks no HTTP.
///
/// - A 101 accepts an upgrade, and nothing else does (RFC 9110 section 7.8): an HTTP/1 server's 200 is a refusal. Codecs of
///   HTTP/2 and HTTP/3 have turned exactly a 200 to an extended CONNECT into the 101 (RFC 8441 section 5).
/// - Any 2xx accepts a plain CONNECT (RFC 9110 section 9.3.6) and a POST tunnel.
/// - A 101 that nobody asked for is invalid (RFC 9110 section 15.2.2).
/// - A 2xx of an HTTP/1 server to an upgrade must not reach an HTTP/2 or HTTP/3 client, who would take it for an
///   acceptance of the extended CONNECT.
pub fn judge(ask: Ask, head: &ResponseHead, upstream: Version, downstream: Option<Version>) -> Answer {
    let status = head.status;
    let multiplexed_client = downstream.is_some_and(|version| version >= Version::HTTP_2);
    Answer(match ask {
        _ if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => Verdict::Interim,
        Ask::Upgrade if status == StatusCode::SWITCHING_PROTOCOLS => Verdict::Accepted,
        Ask::Connect | Ask::Post if status == StatusCode::SWITCHING_PROTOCOLS => Verdict::Invalid,
        Ask::Connect | Ask::Post if status.is_success() => Verdict::Accepted,
        Ask::Upgrade if status.is_success() && multiplexed_client && upstream < Version::HTTP_2 => Verdict::Invalid,
        Ask::Upgrade | Ask::Connect | Ask::Post => Verdict::Refused,
    })
}
