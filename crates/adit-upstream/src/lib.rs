//! Clusters: where hosts come from, which one is chosen, and how a connection to it is made, limited, pooled and counted.
//!
//! Deliberately unknown here: routes, retries, what travels in a stream. TLS and other transport sockets, internal
//! listeners and codecs plug in by [`TransportSocketFactory`], [`InternalConnector`] and [`CodecFactory`].
//!
//! Read first: [`ClusterPlan`] (the configuration), [`ClusterManager`] (the process), [`WorkerCluster`] (one worker: it
//! implements [`adit_filter::upstream::Cluster`]).
//!
//! What is shared: hosts, their health and counters, circuit breakers and metrics belong to the process. Pools, the
//! place in a rotation and a copy of the host set belong to a worker, under one lock that only its own thread takes.
//!
//! Floor F3.

mod alternate;
pub mod breaker;
pub mod cluster;
pub mod codec;
pub mod codec_stats;
pub mod connect;
mod dns;
mod health;
pub mod host;
mod lb;
mod manager;
mod original_dst;
mod outlier;
pub mod plan;
mod pool;
pub mod proxy_protocol;
mod quic;
mod resolve;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod transport;
mod udp;
mod view;
mod worker;

pub use cluster::SharedCluster;
pub use codec::{CodecFactory, Codecs};
pub use connect::{InternalConnector, InternalDial, NoInternalListeners};
pub use host::{HealthFlag, HostState};
pub use lb::HostSet;
pub use manager::{ClusterManager, ClusterSet};
pub use plan::{ClusterPlan, PlanEnv};
pub use quic::QuicEndpoints;
pub use transport::{
    NoTransports, QuicTransport, TransportBuilder, TransportContext, TransportError, TransportSocketFactory,
};
pub use view::{ClusterView, HostView};
pub use worker::{WorkerCluster, WorkerDeps};
