//! What is left of a stream once its tunnel stands: a tunnel lives for hours, the chain that let it through need not.

use std::task::{Context, Poll};

use adit_http::{RequestHead, ResponseHead, StreamError};
use http::Version;

use crate::{ResponseFlag, ResponseHook, StreamInfo};

/// A tunnel that both sides accepted.
pub trait StandingTunnel: Send {
    /// Relays, and keeps `stream` true. Ready once both directions are over and everything the tunnel held is given up. Dropped
    /// before, both peers are reset.
    fn poll_relay(&mut self, cx: &mut Context<'_>, stream: &mut TunnelStream) -> Poll<()>;
}

/// The record of a stream that became a tunnel.
pub struct TunnelStream {
    /// What logs and formats read.
    pub info: StreamInfo,
    /// The client's version.
    pub version: Version,
    /// An upgrade or a CONNECT, and not a POST that a route turned into one.
    pub is_tunnel: bool,
    /// For logs, and for filters that wait for the end; gone where there are none.
    kept: Option<Box<Kept>>,
}

struct Kept {
    request: RequestHead,
    response: Option<Box<ResponseHead>>,
    hook: Box<dyn ResponseHook>,
}

impl TunnelStream {
    pub(crate) fn new(
        mut info: StreamInfo,
        request: RequestHead,
        response: Option<Box<ResponseHead>>,
        hook: Option<Box<dyn ResponseHook>>,
    ) -> Self {
        let (version, is_tunnel) = (request.version, request.kind.is_tunnel());
        let kept = hook.map(|hook| Box::new(Kept { request, response, hook }));
        if kept.is_none() {
            info.forget_names();
        }
        Self { info, version, is_tunnel, kept }
    }

    /// The request's head, where logs read it.
    pub fn request(&self) -> Option<&RequestHead> {
        self.kept.as_ref().map(|kept| &kept.request)
    }

    /// The response's head, where logs read it.
    pub fn response(&self) -> Option<&ResponseHead> {
        self.kept.as_ref().and_then(|kept| kept.response.as_deref())
    }

    /// As [`HttpStream::client_gone`](crate::HttpStream::client_gone).
    pub fn client_gone(&mut self, error: StreamError) {
        note_client_gone(&mut self.info, self.version, error);
    }

    /// As [`HttpStream::poll_tick`](crate::HttpStream::poll_tick).
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) {
        if let Some(kept) = &mut self.kept {
            kept.hook.poll_tick(cx, &kept.request, &mut self.info);
        }
    }
}

/// Records a client that left, or broke its protocol, before the exchange was over.
pub(crate) fn note_client_gone(info: &mut StreamInfo, version: Version, error: StreamError) {
    let (details, flag) = match error {
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
    };
    info.details = Some(details.into());
    info.flags.set(flag);
}
