//! What a stream counts and logs, from its head to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adit_filter::{AccessLogType, HttpStream, ResponseFlag, ResponseFlags, StreamInfo, TunnelStream};
use http::Version;
use tokio::time::Instant;

use crate::Hcm;
use crate::conn::ConnShared;
use crate::serving::Ends;
use crate::stats::HttpStats;

/// Counts a request from its head to its end; dropped with the stream's future, so that a stream cut from above is counted
/// out too.
pub(crate) struct Account(Arc<Hcm>);

impl Account {
    pub(crate) fn open(shared: &ConnShared, version: Version) -> Self {
        let stats = &shared.hcm.stats.http;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_active.inc();
        match version {
            Version::HTTP_2 => stats.downstream_rq_http2_total.inc(),
            Version::HTTP_3 => stats.downstream_rq_http3_total.inc(),
            _ => stats.downstream_rq_http1_total.inc(),
        }
        // Streams begin in the connection's own task alone.
        shared.streams_total.store(shared.streams_total.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Self(shared.hcm.clone())
    }

    pub(crate) fn hcm(&self) -> &Hcm {
        &self.0
    }

    /// The stream is over, with the last of its answer where that was sent whole; when that was.
    pub(crate) fn close(&self, shared: &ConnShared, stream: &mut HttpStream) -> Instant {
        name_cluster(stream);
        let answered = stream.begun();
        let info = &mut stream.info;
        let elapsed = info.timing.downstream_last_sent.unwrap_or_else(|| info.elapsed());
        let ends = self.note(&End {
            version: stream.request.version,
            tunnel: stream.request.kind.is_tunnel(),
            answered,
            answer_over: info.timing.downstream_last_sent.is_some(),
            request_received: info.timing.request_received.is_some(),
            code: info.response_code,
            flags: info.flags,
            details: info.details.as_deref(),
            elapsed,
        });
        note_end(info, elapsed);
        shared.ends.note(ends);
        self.0.log(&stream.info, Some(&stream.request), stream.response.as_deref(), AccessLogType::DownstreamEnd);
        Instant::from_std(stream.info.started + elapsed)
    }

    /// The stream is over, and was a tunnel: what that says of how its connection ends.
    pub(crate) fn close_tunnel(&self, stream: &mut TunnelStream) -> Ends {
        let elapsed = stream.elapsed();
        let ends = self.note(&End {
            version: stream.version,
            tunnel: stream.is_tunnel,
            answered: true,
            answer_over: stream.answer_over(),
            request_received: stream.request_received,
            code: stream.response_code,
            flags: stream.flags(),
            details: stream.details(),
            elapsed,
        });
        if let Some(info) = stream.info() {
            note_end(info, elapsed);
        }
        if let Some((info, request, response)) = stream.logged() {
            self.0.log(info, Some(request), response, AccessLogType::DownstreamEnd);
        }
        ends
    }

    fn note(&self, end: &End<'_>) -> Ends {
        let stats = &self.0.stats.http;
        if end.code != 0 {
            self.0.stats.completed(end.code);
        }
        if end.details == Some("stream_idle_timeout") {
            stats.downstream_rq_idle_timeout.inc();
        }
        stats.downstream_rq_time.record(u64::try_from(end.elapsed.as_millis()).unwrap_or(u64::MAX));
        count_end(stats, end)
    }
}

/// What statistics read of a stream that is over.
struct End<'a> {
    version: Version,
    tunnel: bool,
    /// Its answer was begun.
    answered: bool,
    /// And the last of it has left.
    answer_over: bool,
    request_received: bool,
    /// 0 where there was no answer.
    code: u16,
    flags: ResponseFlags,
    details: Option<&'a str>,
    elapsed: Duration,
}

/// What logs read of the end itself.
fn note_end(info: &mut StreamInfo, elapsed: Duration) {
    info.timing.end = Some(elapsed);
    info.downstream_close_type.get_or_insert("Normal");
}

impl Drop for Account {
    fn drop(&mut self) {
        self.0.stats.http.downstream_rq_active.dec();
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
fn count_end(stats: &HttpStats, end: &End<'_>) -> Ends {
    let End { version, tunnel, flags, .. } = *end;
    let details = end.details.unwrap_or_default();
    let cut = end.answered && !end.answer_over;
    let mut ends = Ends::default();
    let left = flags.has(ResponseFlag::DownstreamConnectionTermination);
    if version >= Version::HTTP_2 {
        if details.ends_with("remote_reset") {
            stats.downstream_rq_rx_reset.inc();
        }
    } else if left || !end.request_received {
        // Over HTTP/1 a request that did not end ends with its connection.
        stats.downstream_rq_rx_reset.inc();
    }
    let ended = ["stream_idle_timeout", "upstream_max_stream", "max_duration_timeout", "upstream_reset_after_response"];
    let by_us = ended.iter().any(|start| details.starts_with(start));
    if !left && (cut || tunnel && by_us && end.code < 400) {
        // What was being answered was reset.
        stats.downstream_rq_tx_reset.inc();
        if version < Version::HTTP_2 && end.request_received {
            stats.downstream_rq_rx_reset.inc();
        }
        ends.local = true;
    }
    let codec = details.starts_with("http1.") && !details.contains("underscore");
    if codec && flags.has(ResponseFlag::DownstreamProtocolError) {
        stats.downstream_cx_protocol_error.inc();
    }
    if details == "request_payload_too_large" {
        stats.downstream_rq_too_large.inc();
    }
    if left {
        ends.active = true;
    } else if tunnel && version < Version::HTTP_2 {
        ends.local = true;
    }
    ends
}

/// Counts an upgrade or a CONNECT for as long as its stream lives. Dropped with the stream's future, so that a stream cut
/// from above is counted out too.
pub(crate) struct UpgradeAccount(Arc<Hcm>);

impl UpgradeAccount {
    pub(crate) fn open(hcm: &Arc<Hcm>) -> Self {
        let stats = &hcm.stats.http;
        stats.downstream_cx_upgrades_total.inc();
        stats.downstream_cx_upgrades_active.inc();
        Self(hcm.clone())
    }
}

impl Drop for UpgradeAccount {
    fn drop(&mut self) {
        self.0.stats.http.downstream_cx_upgrades_active.dec();
    }
}
