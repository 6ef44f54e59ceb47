//! `tcp_keepalive` of listening sockets.
//!
//! Accepted sockets inherit `TCP_NODELAY`, keep-alive and most others on Linux, so they are set here once and never per
//! connection.

use std::time::Duration;

use adit_config::proto::envoy::config::core::v3 as pb;
use socket2::TcpKeepalive;

/// `tcp_keepalive`; absent values are the kernel's.
pub(crate) fn keepalive(message: &pb::TcpKeepalive) -> TcpKeepalive {
    let seconds = |value: Option<u32>| value.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let mut keepalive = TcpKeepalive::new();
    if let Some(probes) = message.keepalive_probes {
        keepalive = keepalive.with_retries(probes);
    }
    if let Some(time) = seconds(message.keepalive_time) {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = seconds(message.keepalive_interval) {
        keepalive = keepalive.with_interval(interval);
    }
    keepalive
}
