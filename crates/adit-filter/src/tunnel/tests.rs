#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use adit_http::{ErrorCode, RequestKind, Token};
use adit_io::ConnInfo;
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::*;
use crate::{HttpFilter, LocalReply};

/// Counts its turns in the record.
struct Hook;

impl ResponseHook for Hook {
    fn keep_filter(&mut self, _filter: Box<dyn HttpFilter>) {}

    fn on_response(&mut self, _: &mut ResponseHead, _: &RequestHead, _: &mut StreamInfo, _: Instant) {}

    fn render_reply(
        &mut self,
        _: LocalReply,
        _: &RequestHead,
        _: &mut StreamInfo,
        _: Instant,
    ) -> (ResponseHead, Bytes) {
        (ResponseHead::new(StatusCode::OK), Bytes::new())
    }

    fn on_tunnel(&mut self, _request: &RequestHead, _info: &mut StreamInfo) {}

    fn poll_tick(&mut self, _cx: &mut Context<'_>, _request: &RequestHead, info: &mut StreamInfo) {
        info.bytes_sent += 1;
    }
}

/// A tunnel of a request that was answered with 101 after an attempt that failed.
fn tunnel(version: Version, hook: Option<Box<dyn ResponseHook>>) -> TunnelStream {
    let address: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut info = StreamInfo::new(Arc::new(ConnInfo::new(1, address.into(), address.into())));
    info.response_code = 101;
    info.details = Some("via_upstream".into());
    info.flags.set(ResponseFlag::UpstreamConnectionFailure);
    info.route_name = Some("route".into());
    let token = Token::new("websocket").unwrap();
    let mut request = RequestHead::new(RequestKind::Upgrade(token), Method::GET);
    request.version = version;
    let response = Some(Box::new(ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS)));
    TunnelStream::new(info, request, response, hook)
}

#[test]
fn what_logs_read_and_what_statistics_read_is_the_same() {
    let reset = StreamError::Reset(ErrorCode::Cancel);
    for (version, details, flags) in [
        (Version::HTTP_11, "downstream_remote_disconnect", "UF,DC"),
        (Version::HTTP_2, "http2.remote_reset", "UF,DR"),
        (Version::HTTP_3, "http3.remote_reset", "UF,DR"),
    ] {
        for hook in [None, Some(Box::new(Hook) as Box<dyn ResponseHook>)] {
            let logs = hook.is_some();
            let mut tunnel = tunnel(version, hook);
            assert_eq!((tunnel.details(), tunnel.response_code), (Some("via_upstream"), 101));
            assert!(tunnel.is_tunnel && !tunnel.request_received && !tunnel.answer_over());
            tunnel.set_over();
            tunnel.client_gone(reset);
            assert!(tunnel.answer_over());
            assert_eq!((tunnel.details(), tunnel.flags().to_string()), (Some(details), flags.to_owned()));
            assert_eq!(tunnel.info().is_some(), logs);
            let Some((info, request, response)) = tunnel.logged() else { continue };
            assert_eq!((info.details.as_deref(), info.flags.to_string()), (Some(details), flags.to_owned()));
            assert_eq!((info.response_code, info.route_name.as_deref()), (101, Some("route")));
            assert!(info.timing.downstream_last_sent.is_some() && info.timing.upstream_last_received.is_some());
            assert_eq!((request.version, response.unwrap().status), (version, StatusCode::SWITCHING_PROTOCOLS));
        }
    }
}

#[test]
fn periodic_logs_have_the_record_in_hand() {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut tunnel = tunnel(Version::HTTP_11, Some(Box::new(Hook)));
    tunnel.info().unwrap().bytes_sent = 7;
    tunnel.poll_tick(&mut cx);
    assert_eq!(tunnel.logged().unwrap().0.bytes_sent, 8);
}

#[test]
fn a_tunnel_that_nobody_reads_of_is_small() {
    let size = std::mem::size_of::<TunnelStream>();
    assert!(size <= 72, "{size}");
}
