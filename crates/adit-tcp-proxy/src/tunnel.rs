//! The request for a tunnel, and its answer.

use std::future::poll_fn;
use std::sync::Arc;

use adit_codec::{Meter, OutgoingStream, RecvStream, SendStream};
use adit_filter::{LogContext, StreamInfo};
use adit_http::{RequestHead, RequestKind, ResponseHead, Scheme, StreamError};
use adit_io::{FilterState, FilterValue, Sharing};
use adit_upgrade::{Answer, Ask, Verdict, Withheld, judge};
use http::uri::Authority;
use http::{HeaderMap, Method, Version};

use crate::config::TunnelPlan;

/// Where the answer's fields are left (`propagate_response_headers`).
const HEADERS_KEY: &str = "envoy.tcp_proxy.propagate_response_headers";
/// Where the answer's trailers are left (`propagate_response_trailers`).
const TRAILERS_KEY: &str = "envoy.tcp_proxy.propagate_response_trailers";

/// A request that was answered with an acceptance. Nothing can be sent before the exchange agrees.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) send: Withheld<Box<dyn SendStream>>,
    pub(crate) recv: Box<dyn RecvStream>,
    pub(crate) meter: Option<Arc<Meter>>,
}

/// Why a request for a tunnel came to nothing.
pub(crate) enum Refused {
    /// By this answer.
    Status(ResponseHead),
    /// Without one.
    Broken(StreamError),
}

impl TunnelPlan {
    /// What is asked for.
    pub(crate) fn ask(&self) -> Ask {
        if self.post.is_some() { Ask::Post } else { Ask::Connect }
    }

    /// The request's head; `None` when the host name is none.
    pub(crate) fn head(&self, info: &StreamInfo, secure: bool) -> Option<RequestHead> {
        let authority = Authority::try_from(self.hostname.render(&LogContext::new(info))).ok()?;
        let mut head = match &self.post {
            Some(path) => {
                let mut head = RequestHead::new(RequestKind::Plain, Method::POST);
                head.path = Some(path.clone());
                head
            }
            None => RequestHead::new(RequestKind::Connect(authority.clone()), Method::CONNECT),
        };
        head.authority = Some(authority);
        head.scheme = if secure { Scheme::Https } else { Scheme::Http };
        self.headers.apply_request(&mut head, info);
        Some(head)
    }

    /// Leaves an answer's fields where filters and logs find them.
    pub(crate) fn keep_headers(&self, head: &ResponseHead, state: &mut FilterState) {
        if self.propagate_headers {
            let status = (":status".into(), head.status.as_str().into());
            let all = std::iter::once(status).chain(fields(&head.headers)).collect();
            state.set(HEADERS_KEY, FilterValue::Headers(all), Sharing::None);
        }
    }
}

/// Leaves the trailers likewise.
pub(crate) fn keep_trailers(trailers: &HeaderMap, state: &mut FilterState) {
    state.set(TRAILERS_KEY, FilterValue::Headers(fields(trailers).collect()), Sharing::None);
}

fn fields(map: &HeaderMap) -> impl Iterator<Item = (Box<str>, Box<str>)> + '_ {
    map.iter().map(|(name, value)| (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into()))
}

/// Waits for the answer to a request that was sent. Interim answers are skipped, a 101 is a refusal, and so is an acceptance
/// behind which nothing can come.
pub(crate) async fn answer(
    stream: OutgoingStream,
    plan: &TunnelPlan,
    version: Version,
    state: &mut FilterState,
) -> Result<Answered, Refused> {
    let OutgoingStream { send, mut response, meter } = stream;
    let send = Withheld::new(send);
    loop {
        let head = poll_fn(|cx| response.poll_head(cx)).await.map_err(Refused::Broken)?;
        let answer = judge(plan.ask(), &head, version, None);
        match answer.verdict() {
            Verdict::Interim => continue,
            Verdict::Accepted => {
                plan.keep_headers(&head, state);
                let recv = response.into_recv();
                if recv.is_end() {
                    return Err(Refused::Status(head));
                }
                return Ok(Answered { answer, send, recv, meter });
            }
            Verdict::Refused | Verdict::Invalid => {
                plan.keep_headers(&head, state);
                return Err(Refused::Status(head));
            }
        }
    }
}
