//! What is kept of a connection while it is relayed: enough to write its log at the end, and no more.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adit_codec::Meter;
use adit_filter::upstream::{Host, Report};
use adit_filter::{ListenerInfo, ResponseFlags, StreamInfo, UpstreamInfo};
use adit_io::{ConnInfo, Direction, FilterState, Metadata, Refusal, RefusalSlot, RelayObserver};
use http::Version;

use crate::TcpProxy;
use crate::facts::{ClientFacts, UpstreamFacts};

/// One per relayed connection, and its relay's observer.
pub(crate) struct Session {
    pub(crate) proxy: Arc<TcpProxy>,
    host: Arc<dyn Host>,
    /// The listener has logs that are to be written too.
    pub(crate) listener_logs: bool,
    /// `None` where no log is to be written.
    record: Option<Box<Record>>,
    /// The client's word and the upstream's, where it is by an internal connection that it could be refused.
    refusals: (Option<RefusalSlot>, Option<RefusalSlot>),
}

/// What logs read. A [`StreamInfo`] is several times its size, so it is made of this when a line is due.
struct Record {
    client: ClientFacts,
    listener: Arc<ListenerInfo>,
    filter_chain_name: Option<Arc<str>>,
    state: FilterState,
    metadata: Metadata,
    /// Those of attempts that failed.
    flags: ResponseFlags,
    start: SystemTime,
    started: Instant,
    upstream: UpstreamFacts,
    version: Option<Version>,
    attempts: u32,
    ready: Duration,
    meter: Option<Arc<Meter>>,
}

/// The upstream that a connection got.
pub(crate) struct Upstream {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) conn: Arc<ConnInfo>,
    /// `None` for plain TCP.
    pub(crate) version: Option<Version>,
    pub(crate) attempts: u32,
    /// From the start to the connection.
    pub(crate) ready: Duration,
    /// Of a tunnel's request and answer.
    pub(crate) meter: Option<Arc<Meter>>,
}

impl Session {
    /// Of what the connect phase knew.
    pub(crate) fn new(
        proxy: Arc<TcpProxy>,
        info: &StreamInfo,
        listener: Arc<ListenerInfo>,
        upstream: Upstream,
    ) -> Self {
        let refusals = (info.conn.refusal.clone(), upstream.conn.refusal.clone());
        let (host, listener_logs) = (upstream.host.clone(), listener.logs);
        let logs = listener_logs || !proxy.logs.logs.is_empty();
        let record = logs.then(|| Box::new(Record::new(info, listener, upstream)));
        Self { proxy, host, listener_logs, record, refusals }
    }

    /// As logs see it, where there are some.
    pub(crate) fn info(&self, received: u64, sent: u64) -> Option<Box<StreamInfo>> {
        self.record.as_ref().map(|record| Box::new(record.info(self.host.clone(), received, sent)))
    }

    /// Where the upstream is an internal listener that refused, after all, what it had accepted: says so to who connected to
    /// us. Whoever reads the reset runs after this.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        let (client, upstream) = &self.refusals;
        let refusal = upstream.as_ref().and_then(RefusalSlot::get)?;
        if let Some(slot) = client {
            slot.set(refusal.clone());
        }
        Some(refusal)
    }
}

impl Record {
    fn new(info: &StreamInfo, listener: Arc<ListenerInfo>, upstream: Upstream) -> Self {
        Self {
            client: ClientFacts::new(&info.conn),
            listener,
            filter_chain_name: info.filter_chain_name.clone(),
            state: info.state.clone(),
            metadata: info.metadata.clone(),
            flags: info.flags,
            start: info.start,
            started: info.started,
            upstream: UpstreamFacts::new(upstream.conn, &*upstream.host),
            version: upstream.version,
            attempts: upstream.attempts,
            ready: upstream.ready,
            meter: upstream.meter,
        }
    }

    fn info(&self, host: Arc<dyn Host>, received: u64, sent: u64) -> StreamInfo {
        let mut info = StreamInfo::started(self.client.full(self.start), self.start, self.started);
        info.state = self.state.clone();
        info.metadata = self.metadata.clone();
        info.flags = self.flags;
        info.listener_name = Some(self.listener.name.clone());
        info.filter_chain_name = self.filter_chain_name.clone();
        info.bytes_received = received;
        info.bytes_sent = sent;
        info.upstream = Some(Box::new(self.upstream_info(host, received, sent)));
        info
    }

    fn upstream_info(&self, host: Arc<dyn Host>, received: u64, sent: u64) -> UpstreamInfo {
        let (id, local, remote, conn) = self.upstream.ends(&*host);
        UpstreamInfo {
            cluster: Some(host.info().cluster.clone()),
            host: Some(host),
            local: Some(local),
            remote: Some(remote),
            connection_id: id,
            conn,
            protocol: self.version,
            attempts: self.attempts,
            pool_ready: Some(self.ready),
            bytes_sent: received,
            bytes_received: sent,
            meter: self.meter.clone(),
            ..UpstreamInfo::default()
        }
    }
}

impl RelayObserver for Session {
    fn on_bytes(&self, direction: Direction, bytes: u64) {
        let stats = &self.proxy.stats;
        match direction {
            Direction::DownToUp => {
                stats.downstream_cx_rx_bytes_total.add(bytes);
                self.host.report(Report::Bytes { sent: bytes, received: 0 });
            }
            Direction::UpToDown => {
                stats.downstream_cx_tx_bytes_total.add(bytes);
                self.host.report(Report::Bytes { sent: 0, received: bytes });
            }
        }
    }

    fn on_paused(&self, direction: Direction) {
        match direction {
            Direction::DownToUp => self.proxy.stats.downstream_flow_control_paused_reading_total.inc(),
            Direction::UpToDown => self.host.report(Report::FlowControl { paused: true }),
        }
    }

    fn on_resumed(&self, direction: Direction) {
        match direction {
            Direction::DownToUp => self.proxy.stats.downstream_flow_control_resumed_reading_total.inc(),
            Direction::UpToDown => self.host.report(Report::FlowControl { paused: false }),
        }
    }
}
