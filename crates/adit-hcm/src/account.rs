//! What a stream counts and logs, from its head to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit_filter::{AccessLogType, HttpStream, ResponseFlag, StreamInfo, TunnelStream};
use http::Version;

use crate::conn::{ConnShared, Ends};

/// Counts a request from its head to its end; dropped with the stream's future, so that a stream cut from above is counted
/// out too.
pub(crate) struct Account(Arc<ConnShared>);

impl Account {
    pub(crate) fn open(shared: Arc<ConnShared>, version: Version) -> Self {
        let stats = &shared.hcm.stats.http;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_active.inc();
        match version {
            Version::HTTP_2 => stats.downstream_rq_http2_total.inc(),
            Version::HTTP_3 => stats.downstream_rq_http3_total.inc(),
            _ => stats.downstream_rq_http1_total.inc(),
        }
        shared.streams_total.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    pub(crate) fn conn(&self) -> &Arc<ConnShared> {
        &self.0
    }

    /// The stream is over.
    pub(crate) fn close(&self, stream: &mut HttpStream) {
        name_cluster(stream);
        let end =
            End { version: stream.request.version, tunnel: stream.request.kind.is_tunnel(), answered: stream.begun() };
        self.note(end, &mut stream.info);
        self.0.hcm.log(&stream.info, Some(&stream.request), stream.response.as_deref(), AccessLogType::DownstreamEnd);
    }

    /// The stream is over, and was a tunnel.
    pub(crate) fn close_tunnel(&self, stream: &mut TunnelStream) {
        let end = End { version: stream.version, tunnel: stream.is_tunnel, answered: true };
        self.note(end, &mut stream.info);
        self.0.hcm.log(&stream.info, stream.request(), stream.response(), AccessLogType::DownstreamEnd);
    }

    fn note(&self, end: End, info: &mut StreamInfo) {
        let hcm = &self.0.hcm;
        let stats = &hcm.stats.http;
        let elapsed = info.elapsed();
        info.timing.end = Some(elapsed);
        if info.response_code != 0 {
            hcm.stats.completed(info.response_code);
        }
        if info.details.as_deref() == Some("stream_idle_timeout") {
            stats.downstream_rq_idle_timeout.inc();
        }
        note_end(&self.0, end, info);
        stats.downstream_rq_time.record(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    }
}

/// What of a stream its end depends on.
struct End {
    version: Version,
    tunnel: bool,
    /// Its answer was begun.
    answered: bool,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.0.hcm.stats.http.downstream_rq_active.dec();
    }
}

/// A request that its route would have sent to a cluster is logged with that, whatever answered it.
pub(crate) fn name_cluster(stream: &mut HttpStream) {
    if stream.info.upstream.is_some() {
        return;
    }
    let name = stream.route.as_ref().and_then(|route| route.cluster(&stream.request));
    if let Some(cluster) = name.and_then(|name| stream.worker.clusters.get(name)) {
        stream.info.upstream_mut().cluster = Some(cluster.settings().name.clone());
    }
}

/// How the end of a stream is told of its connection (Envoy's `onResetStream`, and what a connection was destroyed with).
fn note_end(shared: &ConnShared, end: End, info: &mut StreamInfo) {
    let End { version, tunnel, answered } = end;
    let cut = answered && info.timing.downstream_last_sent.is_none();
    let stats = &shared.hcm.stats.http;
    info.downstream_close_type.get_or_insert("Normal");
    let left = info.flags.has(ResponseFlag::DownstreamConnectionTermination);
    if version >= Version::HTTP_2 {
        if info.details.as_deref().is_some_and(|details| details.ends_with("remote_reset")) {
            stats.downstream_rq_rx_reset.inc();
        }
    } else if left || info.timing.request_received.is_none() {
        // Over HTTP/1 a request that did not end ends with its connection.
        stats.downstream_rq_rx_reset.inc();
    }
    let ended = ["stream_idle_timeout", "upstream_max_stream", "max_duration_timeout", "upstream_reset_after_response"];
    let by_us = info.details.as_deref().is_some_and(|text| ended.iter().any(|details| text.starts_with(details)));
    if !left && (cut || tunnel && by_us && info.response_code < 400) {
        // What was being answered was reset.
        stats.downstream_rq_tx_reset.inc();
        if version < Version::HTTP_2 && info.timing.request_received.is_some() {
            stats.downstream_rq_rx_reset.inc();
        }
        shared.ends.note(Ends::LOCAL);
    }
    let codec = info.details.as_deref().is_some_and(|text| text.starts_with("http1.") && !text.contains("underscore"));
    if codec && info.flags.has(ResponseFlag::DownstreamProtocolError) {
        stats.downstream_cx_protocol_error.inc();
    }
    if info.details.as_deref() == Some("request_payload_too_large") {
        stats.downstream_rq_too_large.inc();
    }
    if left {
        shared.ends.note(Ends::ACTIVE);
    } else if tunnel && version < Version::HTTP_2 {
        shared.ends.note(Ends::LOCAL);
    }
}

/// Counts an upgrade or a CONNECT for as long as its stream lives. Dropped with the stream's future, so that a stream cut
/// from above is counted out too.
pub(crate) struct UpgradeAccount(Arc<ConnShared>);

impl UpgradeAccount {
    pub(crate) fn open(shared: &Arc<ConnShared>) -> Self {
        let stats = &shared.hcm.stats.http;
        stats.downstream_cx_upgrades_total.inc();
        stats.downstream_cx_upgrades_active.inc();
        Self(shared.clone())
    }
}

impl Drop for UpgradeAccount {
    fn drop(&mut self) {
        self.0.hcm.stats.http.downstream_cx_upgrades_active.dec();
    }
}
