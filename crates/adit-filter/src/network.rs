//! Filters of listeners and of connections.

use std::sync::Arc;
use std::time::Duration;

use adit_io::{ConnInfo, Io};

use crate::{BoxFuture, ResponseFlag, StreamInfo, WorkerEnv};

/// Facts of a listener that its connections need.
#[derive(Debug, Clone)]
pub struct ListenerInfo {
    /// The listener's name.
    pub name: Arc<str>,
    /// The address in stats: `127.0.0.1_10000`, `envoy_internal_<name>`, or the listener's `stat_prefix`.
    pub stats_address: Arc<str>,
    /// `per_connection_buffer_limit_bytes`, 1 MiB by default.
    pub buffer_limit: usize,
    /// `traffic_direction`: `UNSPECIFIED`, `INBOUND` or `OUTBOUND`.
    pub direction: &'static str,
    /// `quic`, `udp`, `internal` or `tcp`.
    pub kind: &'static str,
    /// It has access logs of its own (`access_log`).
    pub logs: bool,
}

/// A connection on its way through a filter chain.
pub struct Connection {
    /// The bytes, the facts, the filter state.
    pub io: Io,
    /// The listener it came by.
    pub listener: Arc<ListenerInfo>,
    /// `filter_chain_match` winner's name.
    pub filter_chain_name: Option<Arc<str>>,
    /// What the worker lends.
    pub worker: Arc<WorkerEnv>,
    /// Held until the connection is over: gauges, connection limits.
    pub guards: Vec<Box<dyn Send>>,
}

impl Connection {
    /// A stream that starts now on this connection, with what the connection knows.
    pub fn stream_info(&self) -> StreamInfo {
        let mut info = StreamInfo::new(self.io.info.clone());
        info.state = self.io.state.clone();
        info.metadata = self.io.metadata.clone();
        info.filter_chain_name = self.filter_chain_name.clone();
        info.listener_name = Some(self.listener.name.clone());
        info
    }

    /// The facts, for changing them.
    pub fn info_mut(&mut self) -> &mut ConnInfo {
        Arc::make_mut(&mut self.io.info)
    }
}

/// Looks at a connection's first bytes before a filter chain is chosen (`envoy.filters.listener.*`).
pub trait ListenerFilter: Send + Sync {
    /// Reads ahead, sets facts, may take bytes off the front. The listener bounds the time of all filters together
    /// (`listener_filters_timeout`).
    fn accept<'a>(&'a self, io: &'a mut Io) -> BoxFuture<'a, ListenerFilterVerdict>;
}

/// What a listener filter decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerFilterVerdict {
    /// Next filter.
    Continue,
    /// The connection is closed; counted as `downstream_listener_filter_error`.
    Error,
    /// The peer closed first; counted as `downstream_listener_filter_remote_close`.
    RemoteClose,
}

/// A network filter that is not terminal: it judges a connection once, before the terminal filter takes it.
pub trait NetworkFilter: Send + Sync {
    /// Looks at the connection, sets state, takes a guard, or refuses it.
    fn on_connection<'a>(&'a self, connection: &'a mut Connection) -> BoxFuture<'a, NetworkVerdict>;
}

/// What a network filter decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkVerdict {
    /// Next filter.
    Continue,
    /// The connection is closed after `delay`.
    Close {
        /// How long to wait first.
        delay: Duration,
        /// `%CONNECTION_TERMINATION_DETAILS%`.
        details: String,
        /// `%RESPONSE_FLAGS%`.
        flag: Option<ResponseFlag>,
    },
}

/// The last filter of a chain: it takes the connection and sees it to its end.
pub trait NetworkTerminal: Send + Sync {
    /// Serves the connection; the result is what the listener's own access logs report, and read only where it has some
    /// ([`ListenerInfo::logs`]).
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>>;

    /// A filter before it closed the connection: counts and logs that, where connections are counted and logged.
    fn refused(&self, info: &mut StreamInfo) {
        let _ = info;
    }

    /// Whether it says by [`adit_io::RefusalSlot`], without a byte of the client's, if it can serve an internal connection.
    /// Who connected waits for that.
    fn decides(&self) -> bool {
        false
    }
}
