//! The TCP proxy: a terminal network filter that relays a connection to a cluster, plainly or through an HTTP tunnel
//! (`envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`).
//!
//! Deliberately unknown here: sockets being accepted, how a host is chosen and dialled, the HTTP version of a tunnel.
//!
//! Read first: [`TcpProxy`]; `connect`, which drives [`adit_upgrade::Exchange`] until a tunnel stands; `relaying`, what is
//! left of a connection once it does.
//!
//! # While there is no upstream
//! The client's bytes stay in its socket (or up to `max_early_data_bytes` of them here) until the upstream connection or
//! the tunnel stands; nothing is sent to an upstream that has not accepted. A client that leaves meanwhile is noticed:
//!
//! | the client | plain | tunnel |
//! |---|---|---|
//! | resets | given up at once | given up at once, the request is reset |
//! | ends, having sent nothing | a half-close, passed on | has left: given up, as above |
//! | ends behind bytes | a half-close, passed on | a half-close, passed on |
//!
//! If no upstream is found, a client that has sent bytes is reset and any other one gets an end, as in Envoy.
//!
//! Floor F3.

mod client;
mod config;
mod connect;
mod facts;
mod log;
mod relaying;
mod serve;
mod session;
mod stats;
mod tunnel;

pub use config::{Factories, TcpProxy};
pub use stats::TcpProxyStats;
