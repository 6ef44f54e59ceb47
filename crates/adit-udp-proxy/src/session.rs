//! A session as its task, its listener and its logs see it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use adit_filter::{Datagram, StreamInfo, UdpLink};
use adit_io::{Address, ConnInfo, Value};
use adit_stats::GaugeHold;
use tokio::time::Instant;

use crate::UdpProxy;

/// Whose datagrams a session carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// One session.
pub(crate) struct Session {
    pub(crate) proxy: Arc<UdpProxy>,
    pub(crate) link: UdpLink,
    pub(crate) key: Key,
    pub(crate) counts: Counts,
    started: Instant,
    /// When a datagram last moved, in milliseconds since the start.
    moved: AtomicU64,
    _active: GaugeHold,
}

/// What one session, or all of a proxy, moved: `udp.proxy.session` and `udp.proxy.proxy` in logs.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) datagrams_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) errors_received: AtomicU64,
    pub(crate) datagrams_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) errors_sent: AtomicU64,
}

impl Counts {
    /// As dynamic metadata.
    pub(crate) fn fields(&self) -> BTreeMap<Box<str>, Value> {
        let each = [
            ("datagrams_received", &self.datagrams_received),
            ("bytes_received", &self.bytes_received),
            ("errors_received", &self.errors_received),
            ("datagrams_sent", &self.datagrams_sent),
            ("bytes_sent", &self.bytes_sent),
            ("errors_sent", &self.errors_sent),
        ];
        each.into_iter().map(|(name, value)| (name.into(), number(value.load(Relaxed)))).collect()
    }
}

/// A count as a value of metadata.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are rounded, as in any JSON")]
pub(crate) fn number(value: u64) -> Value {
    Value::Number(value as f64)
}

impl Session {
    pub(crate) fn new(proxy: Arc<UdpProxy>, link: UdpLink, key: Key) -> Arc<Self> {
        proxy.stats.downstream_sess_total.inc();
        let active = proxy.stats.downstream_sess_active.hold();
        Arc::new(Self {
            proxy,
            link,
            key,
            counts: Counts::default(),
            started: Instant::now(),
            moved: AtomicU64::new(0),
            _active: active,
        })
    }

    /// A stream as logs and formats see it.
    pub(crate) fn stream_info(&self) -> StreamInfo {
        let conn = ConnInfo::new(ConnInfo::next_id(), Address::Ip(self.key.local), Address::Ip(self.key.peer));
        let mut info = StreamInfo::new(Arc::new(conn));
        info.listener_name = Some(self.link.listener.name.clone());
        info
    }

    /// A datagram came from the client.
    pub(crate) fn received(&self, bytes: usize) {
        let stats = &self.proxy.stats;
        stats.downstream_sess_rx_datagrams.inc();
        stats.downstream_sess_rx_bytes.add(bytes as u64);
        self.counts.datagrams_received.fetch_add(1, Relaxed);
        self.counts.bytes_received.fetch_add(bytes as u64, Relaxed);
        self.touch();
    }

    /// Sends one to the client. Where the kernel has no room it is dropped, as any router would.
    pub(crate) fn reply(&self, payload: &[u8]) {
        let stats = &self.proxy.stats;
        let Key { peer, local } = self.key;
        match self.link.socket.try_send(Datagram { peer, local, payload }) {
            Ok(()) => {
                stats.downstream_sess_tx_datagrams.inc();
                stats.downstream_sess_tx_bytes.add(payload.len() as u64);
                self.counts.datagrams_sent.fetch_add(1, Relaxed);
                self.counts.bytes_sent.fetch_add(payload.len() as u64, Relaxed);
            }
            Err(_) => {
                stats.downstream_sess_tx_errors.inc();
                self.counts.errors_sent.fetch_add(1, Relaxed);
            }
        }
        self.touch();
    }

    /// Counts what became of a datagram on its way to the upstream.
    pub(crate) fn sent_upstream(&self, result: &io::Result<usize>) {
        let stats = &self.proxy.cluster_stats;
        match result {
            Ok(_) => stats.sess_tx_datagrams.inc(),
            Err(_) => stats.sess_tx_errors.inc(),
        }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(millis, Relaxed);
    }

    /// When the session will have been idle too long, if nothing moves; `None` for never.
    pub(crate) fn idle_at(&self) -> Option<Instant> {
        let timeout = self.proxy.idle_timeout;
        let moved = self.started.checked_add(Duration::from_millis(self.moved.load(Relaxed)))?;
        moved.checked_add(timeout).filter(|_| !timeout.is_zero())
    }

    /// Waits until nothing has moved for `idle_timeout`.
    pub(crate) async fn idle(&self) {
        loop {
            match self.idle_at() {
                None => std::future::pending().await,
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::time::sleep_until(at).await,
            }
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
