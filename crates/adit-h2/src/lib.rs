//! The HTTP/2 codec (RFC 9113, RFC 8441), server and client, on the `h2` crate.
//!
//! Deliberately unknown here: configuration files, routes, statistics names' prefixes, which socket carries the
//! connection, who runs its task. Nothing is spawned: the owner polls [`server`]'s connection, or the driver that
//! [`client`] gives, for as long as the connection lives.
//!
//! Read first: [`Http2Options`] (Envoy's `Http2ProtocolOptions`), [`server`], [`client`]; inside, `watch` and `tally`
//! (what the `h2` crate does not count or answers wrongly is found on the bytes themselves) and `send` (flow control).
//!
//! What this codec adds to the `h2` crate: message rules of RFC 9113 section 8 that the crate leaves open, translation to
//! and from the canonical form, Envoy's flood limits, a bounded amount of work per poll, back-pressure from the socket to
//! every sender, keep-alive PINGs, and reset codes that cross in both directions.
//!
//! Floor F2.

mod client;
mod config;
#[cfg(feature = "envoy-config")]
mod envoy;
mod error;
mod frames;
mod head;
mod held;
pub mod hpack;
mod keepalive;
mod recv;
mod send;
mod server;
mod shared;
mod stats;
mod streams;
mod tally;
mod walk;
mod watch;

pub use client::client;
pub use config::{ClientConfig, Http2Options, KeepaliveOptions, ServerConfig};
pub use server::{Server, server};
pub use stats::{CodecStats, Counter, Gauge};
