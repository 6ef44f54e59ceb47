//! The UDP proxy: the filter of a UDP listener that relays datagrams to a cluster, plainly or through CONNECT-UDP
//! (`envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig`).
//!
//! Deliberately unknown here: the listener's socket, how a host is chosen, the HTTP version of a tunnel.
//!
//! Read first: [`UdpProxy`]; `handler`, which finds the session of each datagram; `plain` and `tunnel`, the two kinds of
//! sessions.
//!
//! A session is a pair of a client's address and ours. It lives on one worker, as one task, until it is idle, its tunnel
//! ends or the worker closes. What comes from the client goes to a plain session's socket at once, and to a tunnel's
//! through a bounded queue; a datagram for which there is no room is dropped and counted, as UDP has it.
//!
//! Floor F3.

mod config;
mod connect;
mod handler;
mod inbox;
mod log;
mod plain;
mod request;
mod session;
mod stats;
mod tunnel;

pub use config::{Factories, UdpProxy};
pub use stats::UdpProxyStats;
