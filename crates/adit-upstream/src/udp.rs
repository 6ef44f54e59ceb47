//! Hosts that are reached by UDP: chosen, limited and counted; the socket is the caller's.

use std::borrow::Cow;
use std::sync::Arc;

use adit_filter::upstream::{ConnectFailure, FailureKind, Host, Need, Priority, UdpUpstream};

use crate::host::HostState;
use crate::worker::WorkerCluster;

impl WorkerCluster {
    pub(crate) fn udp_upstream(&self, need: &Need<'_>) -> Result<UdpUpstream, ConnectFailure> {
        let host = self.pick(need)?;
        let failure = |kind, reason: &'static str| ConnectFailure {
            kind,
            reason: Cow::Borrowed(reason),
            host: Some(host.clone() as Arc<dyn Host>),
            refusal: None,
        };
        let Some(address) = host.address().socket() else {
            return Err(failure(FailureKind::Local, "the host has no IP address"));
        };
        let Some(this) = self.this.upgrade() else { return Err(failure(FailureKind::Local, "")) };
        if !host.try_place(need.priority) {
            self.core.stats.traffic.upstream_cx_overflow.inc();
            return Err(failure(FailureKind::Overflow, ""));
        }
        self.count_connection(&host);
        let source = self.core.plan.dial.source.filter(|source| source.is_ipv4() == address.is_ipv4());
        let guard = Box::new(UdpGuard { cluster: this, host: host.clone(), priority: need.priority });
        Ok(UdpUpstream { host, address, source, guard })
    }
}

/// A session's place under `max_connections`, the cluster's and the host's.
struct UdpGuard {
    cluster: Arc<WorkerCluster>,
    host: Arc<HostState>,
    priority: Priority,
}

impl Drop for UdpGuard {
    fn drop(&mut self) {
        self.cluster.uncount_connection(&self.host);
        self.host.unplace(self.priority);
    }
}
