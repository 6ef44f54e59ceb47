//! What the HTTP/1 codec does unasked: heads that it does not take are answered in the connection manager's words, counted
//! and logged like requests; how it ends a connection is counted.

use std::sync::Arc;

use adit_codec::Meter;
use adit_filter::{AccessLogType, LocalReply, ResponseFlag};
use adit_http::ResponseHead;
use bytes::Bytes;
use http::{StatusCode, Version};
use tokio::time::Instant;

use crate::conn::ConnShared;
use crate::serving::Ends;

impl adit_h1::Owner for ConnShared {
    fn refuse(&self, status: StatusCode, details: &'static str, meter: Arc<Meter>) -> (ResponseHead, Bytes) {
        let hcm = &self.hcm;
        let now = Instant::now();
        let mut info = self.stream_info(now);
        info.protocol = Some(Version::HTTP_11);
        let timed_out = status == StatusCode::REQUEST_TIMEOUT;
        if !timed_out {
            info.flags.set(ResponseFlag::DownstreamProtocolError);
        }
        self.count_refusal(status);
        let text = match details {
            _ if timed_out => "request header timeout",
            // These Envoy's connection manager refuses, not its codec.
            "path_normalization_failed" | "absolute_path_rejected" => "",
            _ => status.canonical_reason().unwrap_or_default(),
        };
        let reply = LocalReply::new(status, details).body(text);
        info.details = Some(details.into());
        let (mut head, body) = hcm.word(reply, None, &mut info);
        hcm.finish(&mut head, None, now);
        info.downstream_close_type = Some("Normal");
        info.response_code = head.status.as_u16();
        info.bytes_sent = body.len() as u64;
        let (size, fields) = adit_h1::answer_size(&head, &body);
        meter.sent(size, fields);
        info.meter = Some(meter);
        let elapsed = info.elapsed();
        info.timing.downstream_first_sent = Some(elapsed);
        info.timing.downstream_last_sent = Some(elapsed);
        info.timing.end = Some(elapsed);
        hcm.stats.completed(info.response_code);
        hcm.log(&info, None, Some(&head), AccessLogType::DownstreamEnd);
        (head, body)
    }

    fn event(&self, event: adit_h1::Event) {
        use adit_h1::Event;
        let hcm = &self.hcm;
        match event {
            Event::Continued => hcm.stats.completed(StatusCode::CONTINUE.as_u16()),
            Event::LeftInHead(received) => self.left_in_head(received),
            Event::Closing => self.ends.note(Ends::LOCAL),
            Event::CloseTimedOut => hcm.stats.http.downstream_cx_delayed_close_timeout.inc(),
        }
    }
}

impl ConnShared {
    /// A request that began and never came: Envoy has a stream for it from its first byte.
    fn left_in_head(&self, received: usize) {
        let stats = &self.hcm.stats.http;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_http1_total.inc();
        stats.downstream_rq_rx_reset.inc();
        self.ends.note(Ends::ACTIVE);
        let mut info = self.stream_info(Instant::now());
        info.protocol = Some(Version::HTTP_11);
        info.details = Some("downstream_remote_disconnect".into());
        info.flags.set(ResponseFlag::DownstreamConnectionTermination);
        info.downstream_close_type = Some("Normal");
        let meter = Meter::default();
        meter.received(received, 0);
        info.meter = Some(Arc::new(meter));
        info.timing.end = Some(info.elapsed());
        self.hcm.log(&info, None, None, AccessLogType::DownstreamEnd);
    }

    fn count_refusal(&self, status: StatusCode) {
        let stats = &self.hcm.stats.http;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_http1_total.inc();
        stats.downstream_rq_response_before_rq_complete.inc();
        stats.downstream_rq_rx_reset.inc();
        match status {
            StatusCode::REQUEST_TIMEOUT => stats.downstream_rq_header_timeout.inc(),
            _ => stats.downstream_cx_protocol_error.inc(),
        }
    }
}
