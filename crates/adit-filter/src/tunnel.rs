//! What is left of a stream once its tunnel stands: a tunnel lives for hours, the chain that let it through need not.

use std::borrow::Cow;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use adit_http::{RequestHead, ResponseHead, StreamError};
use http::Version;

use crate::{ResponseFlag, ResponseFlags, ResponseHook, StreamInfo};

/// A tunnel that both sides accepted.
pub trait StandingTunnel: Send {
    /// Relays, and keeps `stream` true. Ready once both directions are over and everything the tunnel held is given up. Dropped
    /// before, both peers are reset.
    fn poll_relay(&mut self, cx: &mut Context<'_>, stream: &mut TunnelStream) -> Poll<()>;
}

/// The record of a stream that became a tunnel: what statistics read at its end, and everything else only where a log or a
/// filter does.
pub struct TunnelStream {
    /// The client's version.
    pub version: Version,
    /// An upgrade or a CONNECT, and not a POST that a route turned into one.
    pub is_tunnel: bool,
    /// The client's request was received whole before the tunnel stood.
    pub request_received: bool,
    /// `%RESPONSE_CODE%`
    pub response_code: u16,
    answer_over: bool,
    started: Instant,
    flags: ResponseFlags,
    details: Option<Cow<'static, str>>,
    kept: Option<Box<Kept>>,
}

/// For logs, and for filters that wait for the end.
struct Kept {
    info: StreamInfo,
    request: RequestHead,
    response: Option<Box<ResponseHead>>,
    hook: Box<dyn ResponseHook>,
}

impl TunnelStream {
    pub(crate) fn new(
        info: StreamInfo,
        request: RequestHead,
        response: Option<Box<ResponseHead>>,
        hook: Option<Box<dyn ResponseHook>>,
    ) -> Self {
        Self {
            version: request.version,
            is_tunnel: request.kind.is_tunnel(),
            request_received: info.timing.request_received.is_some(),
            response_code: info.response_code,
            answer_over: false,
            started: info.started,
            flags: info.flags,
            details: info.details.clone(),
            kept: hook.map(|hook| Box::new(Kept { info, request, response, hook })),
        }
    }

    /// The whole record, where logs or filters read it.
    pub fn info(&mut self) -> Option<&mut StreamInfo> {
        self.kept.as_mut().map(|kept| &mut kept.info)
    }

    /// What logs read: the record, and both heads; `None` where none does.
    pub fn logged(&self) -> Option<(&StreamInfo, &RequestHead, Option<&ResponseHead>)> {
        self.kept.as_deref().map(|kept| (&kept.info, &kept.request, kept.response.as_deref()))
    }

    /// The time since the request came.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// `%RESPONSE_FLAGS%`
    pub fn flags(&self) -> ResponseFlags {
        self.flags
    }

    /// `%RESPONSE_CODE_DETAILS%`
    pub fn details(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// The tunnel is over, and not cut from above.
    pub fn answer_over(&self) -> bool {
        self.answer_over
    }

    /// The tunnel is over: nothing more goes to either side.
    pub fn set_over(&mut self) {
        self.answer_over = true;
        if let Some(kept) = &mut self.kept {
            let elapsed = kept.info.elapsed();
            kept.info.timing.downstream_last_sent = Some(elapsed);
            kept.info.timing.upstream_last_received = Some(elapsed);
        }
    }

    /// Why the tunnel ended.
    pub fn explain(&mut self, details: impl Into<Cow<'static, str>>, flag: Option<ResponseFlag>) {
        let details = details.into();
        if let Some(flag) = flag {
            self.flags.set(flag);
        }
        if let Some(kept) = &mut self.kept {
            kept.info.flags = self.flags;
            kept.info.details = Some(details.clone());
        }
        self.details = Some(details);
    }

    /// As [`HttpStream::client_gone`](crate::HttpStream::client_gone).
    pub fn client_gone(&mut self, error: StreamError) {
        let (details, flag) = client_gone(self.version, error);
        self.explain(details, Some(flag));
    }

    /// As [`HttpStream::poll_tick`](crate::HttpStream::poll_tick).
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) {
        if let Some(kept) = &mut self.kept {
            kept.hook.poll_tick(cx, &kept.request, &mut kept.info);
        }
    }
}

/// What is recorded of a client that left, or broke its protocol, before the exchange was over.
pub(crate) fn client_gone(version: Version, error: StreamError) -> (&'static str, ResponseFlag) {
    match error {
        StreamError::Protocol(details) | StreamError::TooLarge(details) => {
            (details, ResponseFlag::DownstreamProtocolError)
        }
        StreamError::Reset(_) | StreamError::Stopped(_) if version == Version::HTTP_2 => {
            ("http2.remote_reset", ResponseFlag::DownstreamRemoteReset)
        }
        StreamError::Reset(_) | StreamError::Stopped(_) if version == Version::HTTP_3 => {
            ("http3.remote_reset", ResponseFlag::DownstreamRemoteReset)
        }
        _ => ("downstream_remote_disconnect", ResponseFlag::DownstreamConnectionTermination),
    }
}

#[cfg(test)]
mod tests;
