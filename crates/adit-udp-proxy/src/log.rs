//! Writing access-log lines.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_filter::{AccessLogType, LogContext, StreamInfo};
use adit_io::{Address, ConnInfo, Value};
use tokio::time::Instant;

use crate::UdpProxy;
use crate::session::{Session, number};

/// Dynamic metadata of a session's line, under Envoy's name.
const SESSION: &str = "udp.proxy.session";
/// Dynamic metadata of the proxy's line.
const PROXY: &str = "udp.proxy.proxy";

impl Session {
    /// Writes a line with what was moved so far.
    pub(crate) fn log(&self, info: &mut StreamInfo, kind: AccessLogType) {
        let counts = &self.counts;
        info.bytes_received = counts.bytes_received.load(Relaxed);
        info.bytes_sent = counts.bytes_sent.load(Relaxed);
        if kind == AccessLogType::UdpSessionEnd {
            info.timing.end.get_or_insert_with(|| self.elapsed());
        }
        let mut fields = counts.fields();
        fields.insert("cluster_name".into(), Value::String(self.proxy.cluster.clone()));
        info.metadata.merge(SESSION, fields);
        for log in &self.proxy.logs {
            log.log(&LogContext { kind, ..LogContext::new(info) });
        }
    }

    /// Writes `UdpPeriodic` lines for as long as it is polled.
    pub(crate) async fn log_periodically(&self, info: &StreamInfo) {
        let Some(interval) = self.proxy.log_interval.filter(|_| !self.proxy.logs.is_empty()) else {
            return std::future::pending().await;
        };
        loop {
            match Instant::now().checked_add(interval) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
            self.log(&mut info.clone(), AccessLogType::UdpPeriodic);
        }
    }
}

impl UdpProxy {
    /// The line of the proxy itself, when its listener ends (`proxy_access_log`).
    pub(crate) fn log_proxy(&self, local: Address, listener: &Arc<str>) {
        if self.proxy_logs.is_empty() {
            return;
        }
        let stats = &self.stats;
        let fields = [
            ("bytes_sent", &stats.downstream_sess_tx_bytes),
            ("bytes_received", &stats.downstream_sess_rx_bytes),
            ("errors_sent", &stats.downstream_sess_tx_errors),
            ("errors_received", &stats.downstream_sess_rx_errors),
            ("datagrams_sent", &stats.downstream_sess_tx_datagrams),
            ("datagrams_received", &stats.downstream_sess_rx_datagrams),
            ("no_route", &stats.downstream_sess_no_route),
            ("session_total", &stats.downstream_sess_total),
            ("idle_timeout", &stats.idle_timeout),
        ];
        let conn = ConnInfo::new(ConnInfo::next_id(), local.clone(), local);
        let mut info = StreamInfo::new(Arc::new(conn));
        info.listener_name = Some(listener.clone());
        info.metadata.merge(PROXY, fields.into_iter().map(|(name, counter)| (name.into(), number(counter.value()))));
        for log in &self.proxy_logs {
            log.log(&LogContext::new(&info));
        }
    }
}
