//! The HTTP/3 codec (RFC 9114, RFC 9220, RFC 9297), server and client, on `quinn`; and the QUIC endpoints it runs on.
//!
//! Deliberately unknown here: configuration files, routes, statistics names' prefixes, certificates (they come as rustls
//! configurations), who runs a connection's task. Nothing is spawned but by quinn, which drives its connections itself: the
//! owner polls [`server`]'s connection, or the driver that [`client`] gives, for as long as the connection lives.
//!
//! Read first: [`endpoint`] for how a connection comes to be, [`server`], [`client`]; inside, `inbound` (bytes to frames),
//! `recv` and `send` (the two halves), `control` (what is not a request).
//!
//! Everything above QUIC is this crate's own: frames, QPACK with the static table, field validation, control streams. The
//! `h3` crate as released takes no `:protocol: websocket`, accepts malformed requests, and buffers a control frame of any
//! announced length; it serves as a peer in the tests.
//!
//! [`datagram`], [`frame`] and [`qpack`] are pure: bytes in, values out. What is in a datagram, and capsules, are
//! `adit_http::capsule`'s.
//!
//! Floor F2.

mod client;
mod config;
mod control;
pub mod datagram;
pub mod endpoint;
#[cfg(feature = "envoy-config")]
mod envoy;
mod error;
mod fields;
pub mod frame;
mod head;
mod hub;
mod inbound;
pub mod qpack;
mod recv;
mod send;
mod server;
mod settings;
mod shared;
mod silence;
mod stats;
pub mod varint;

pub use client::client;
pub use config::{ClientConfig, Http3Options, ServerConfig};
pub use endpoint::QuicConnection;
pub use server::{Server, server};
pub use stats::{CodecStats, Counter, Gauge};
