//! The HTTP/2 codec (RFC 9113, RFC 7541, RFC 8441), server and client.
//!
//! Deliberately unknown here: configuration files, routes, statistics names' prefixes, which socket carries the
//! connection, who runs its task. Nothing is spawned: the owner polls [`server`]'s connection, or the driver that
//! [`client`] gives, for as long as the connection lives.
//!
//! Read first: [`Http2Options`] (Envoy's `Http2ProtocolOptions`), [`server`], [`client`]; inside, `conn` (the state of a
//! connection and of its streams, a file for each kind of frame), then `wire` (octets to frames and back).
//!
//! ```text
//! Server, Drive --> wire: Reader --> conn: Core <-- H2Recv, H2Send, H2Responder, H2Pending
//!                   wire: Writer <---------'              (the halves that streams are)
//! ```
//!
//! Pure: `frame`, [`hpack`], `section` (the fields of a block), `head` (messages in canonical form), `conn`.
//!
//! Floor F2.

mod client;
mod config;
mod conn;
#[cfg(feature = "envoy-config")]
mod envoy;
mod error;
mod frame;
mod head;
pub mod hpack;
mod keepalive;
mod recv;
mod section;
mod send;
mod server;
mod stats;
mod wire;

pub use client::client;
pub use config::{ClientConfig, Http2Options, KeepaliveOptions, ServerConfig};
pub use server::{Server, server};
pub use stats::{CodecStats, Counter, Gauge};
