//! The route table, and the router: the terminal HTTP filter that takes a request to an upstream and its answer back.
//!
//! Deliberately unknown here: HTTP versions and framing, how a host is chosen, connected or pooled, other filters, where a
//! configuration comes from. Tunnels are moved by `adit_io::relay`, decided about by `adit_upgrade::Exchange`.
//!
//! Read first: [`RouteConfig`], [`Router`].
//!
//! Floor F3.

mod body;
mod exchange;
mod mirror;
mod plain;
mod proxy_protocol;
mod reply;
mod reset;
mod retry;
mod router;
mod standing;
mod table;
mod tcp_errors;
mod tunnel;
mod udp;
mod waits;
mod websocket;

pub use adit_match::ConfigError;
pub use router::Router;
pub(crate) use router::RouterOptions;
pub use table::{PerFilterConfigs, RouteConfig, RouteContext, RouteEntry};
