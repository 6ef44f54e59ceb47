//! The request for a UDP tunnel (RFC 9298 section 3), and what its answer leaves for filters and logs.

use adit_codec::{OutgoingStream, RecvStream, SendStream};
use adit_filter::{LogContext, StreamInfo};
use adit_http::{RequestHead, RequestKind, ResponseHead, Scheme, StreamError, Token};
use adit_io::{FilterState, FilterValue, Sharing};
use adit_upgrade::{Answer, Ask, Verdict, Withheld, judge};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::config::TunnelPlan;

const TOKEN: &str = "connect-udp";
const CAPSULE_PROTOCOL: HeaderName = HeaderName::from_static("capsule-protocol");
/// Where the answer's fields are left (`propagate_response_headers`).
const HEADERS_KEY: &str = "envoy.udp_proxy.propagate_response_headers";
/// Where the answer's trailers are left (`propagate_response_trailers`).
const TRAILERS_KEY: &str = "envoy.udp_proxy.propagate_response_trailers";

/// A request that was answered with an acceptance. Nothing can be sent before the exchange agrees.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) send: Withheld<Box<dyn SendStream>>,
    pub(crate) recv: Box<dyn RecvStream>,
}

/// Why a request for a tunnel came to nothing.
pub(crate) enum Refused {
    /// By an answer with this status.
    Status(u16),
    /// Without one.
    Broken(StreamError),
}

impl TunnelPlan {
    /// What is asked for.
    pub(crate) fn ask(&self) -> Ask {
        if self.post.is_some() { Ask::Post } else { Ask::Upgrade }
    }

    /// The request's head; `None` when a host name is none.
    pub(crate) fn head(&self, info: &StreamInfo, secure: bool) -> Option<RequestHead> {
        let context = LogContext::new(info);
        let mut head = match &self.post {
            Some(path) => {
                let mut head = RequestHead::new(RequestKind::Plain, Method::POST);
                head.path = Some(path.clone());
                head
            }
            None => {
                let mut head = RequestHead::new(RequestKind::Upgrade(Token::new(TOKEN)?), Method::GET);
                head.path = Some(target_path(&self.target_host.render(&context), self.target_port)?);
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                head.headers.insert(header::UPGRADE, HeaderValue::from_static(TOKEN));
                head.headers.insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
                head
            }
        };
        head.authority = Some(authority(&self.proxy_host.render(&context), self.proxy_port)?);
        head.scheme = if secure { Scheme::Https } else { Scheme::Http };
        self.headers.apply_request(&mut head, info);
        Some(head)
    }

    /// Leaves an answer's fields where filters and logs find them.
    fn keep_headers(&self, head: &ResponseHead, state: &mut FilterState) {
        if self.propagate_headers {
            let status = (":status".into(), head.status.as_str().into());
            let all = std::iter::once(status).chain(fields(&head.headers)).collect();
            state.set(HEADERS_KEY, FilterValue::Headers(all), Sharing::None);
        }
    }

    /// Leaves the trailers likewise.
    pub(crate) fn keep_trailers(&self, trailers: &HeaderMap, state: &mut FilterState) {
        if self.propagate_trailers {
            state.set(TRAILERS_KEY, FilterValue::Headers(fields(trailers).collect()), Sharing::None);
        }
    }

    /// Waits for the answer to a request that was sent. Interim answers are skipped, and an acceptance behind which nothing
    /// can come is a refusal.
    pub(crate) async fn answer(
        &self,
        stream: OutgoingStream,
        version: Version,
        state: &mut FilterState,
    ) -> Result<Answered, Refused> {
        let OutgoingStream { send, mut response, .. } = stream;
        let send = Withheld::new(send);
        loop {
            let head = std::future::poll_fn(|cx| response.poll_head(cx)).await.map_err(Refused::Broken)?;
            let answer = judge(self.ask(), &head, version, None);
            if answer.verdict() == Verdict::Interim {
                continue;
            }
            self.keep_headers(&head, state);
            if answer.verdict() == Verdict::Accepted {
                let recv = response.into_recv();
                if !recv.is_end() {
                    return Ok(Answered { answer, send, recv });
                }
            }
            return Err(Refused::Status(head.status.as_u16()));
        }
    }
}

fn fields(map: &HeaderMap) -> impl Iterator<Item = (Box<str>, Box<str>)> + '_ {
    map.iter().map(|(name, value)| (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into()))
}

/// The proxy's host and port; an IPv6 address gets its brackets.
fn authority(host: &str, port: Option<u16>) -> Option<Authority> {
    let bare = host.parse::<std::net::Ipv6Addr>().is_ok();
    let mut text = if bare { format!("[{host}]") } else { host.to_owned() };
    if let Some(port) = port {
        text = format!("{text}:{port}");
    }
    text.parse().ok()
}

/// Envoy's template, filled: everything in the host but unreserved characters is percent-encoded (RFC 9298 section 3.1).
fn target_path(host: &str, port: u16) -> Option<PathAndQuery> {
    use std::fmt::Write as _;
    let mut path = String::from("/.well-known/masque/udp/");
    for byte in host.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    let _ = write!(path, "/{port}/");
    path.parse().ok().filter(|_| !host.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_target_stands_in_the_path() {
        let of = |host| target_path(host, 53).map(|path| path.to_string());
        assert_eq!(of("target.host.com").as_deref(), Some("/.well-known/masque/udp/target.host.com/53/"));
        assert_eq!(of("2001:db8::1").as_deref(), Some("/.well-known/masque/udp/2001%3Adb8%3A%3A1/53/"));
        assert_eq!(of("a/b%").as_deref(), Some("/.well-known/masque/udp/a%2Fb%25/53/"));
        assert_eq!(of(""), None);
        for host in ["target.host.com", "2001:db8::1"] {
            let target = adit_http::target::connect_udp_target(&of(host).unwrap()).unwrap();
            assert_eq!((&*target.host, target.port), (host, 53));
        }
    }

    #[test]
    fn the_authority_is_the_proxys() {
        let of = |host, port| authority(host, port).map(|one| one.to_string());
        assert_eq!(of("proxy.host.com", Some(443)).as_deref(), Some("proxy.host.com:443"));
        assert_eq!(of("proxy.host.com", None).as_deref(), Some("proxy.host.com"));
        assert_eq!(of("::1", Some(1)).as_deref(), Some("[::1]:1"));
        assert_eq!(of("no host", None), None);
    }
}
