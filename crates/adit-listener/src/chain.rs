//! Filter chains of a listener.

use std::sync::Arc;
use std::time::Duration;

use adit_filter::{BoxFuture, Connection, NetworkFilter, NetworkTerminal, StreamInfo};

use crate::TransportAcceptor;

/// The network filters of a chain, made from their configuration.
#[derive(Clone)]
pub struct NetworkChain {
    /// Those that are not terminal, in order.
    pub filters: Vec<Arc<dyn NetworkFilter>>,
    /// The last one.
    pub terminal: Arc<dyn NetworkTerminal>,
}

impl NetworkChain {
    /// Only a terminal filter.
    pub fn new(terminal: Arc<dyn NetworkTerminal>) -> Self {
        Self { filters: Vec::new(), terminal }
    }

    /// A chain without filters: Envoy loads it, and closes each connection at once.
    pub(crate) fn empty() -> Self {
        Self::new(Arc::new(CloseAtOnce))
    }
}

/// One filter chain (`envoy.config.listener.v3.FilterChain`).
pub struct FilterChainPlan {
    /// `%FILTER_CHAIN_NAME%`
    pub name: Option<Arc<str>>,
    /// The transport socket; `None` for the raw one.
    pub transport: Option<Arc<dyn TransportAcceptor>>,
    /// `transport_socket_connect_timeout`
    pub connect_timeout: Duration,
    /// Its filters.
    pub chain: NetworkChain,
}

struct CloseAtOnce;

impl NetworkTerminal for CloseAtOnce {
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
        Box::pin(std::future::ready(Some(Box::new(connection.stream_info()))))
    }
}
