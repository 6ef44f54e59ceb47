//! `envoy.config.core.v3.SocketOption`: read once, set on many sockets; and what no configuration says of a socket (Floor F1: no
//! runtime, no I/O of its own).
//!
//! What it is: the options that a configuration names for the sockets of a listener or of upstream connections
//! ([`SocketOptions`]), checked at load, and set on a socket in the state that each is for ([`When`]).
//!
//! What it deliberately does not know: who makes the socket, binds it and connects it, and what a failure means there.
//!
//! Read first: [`SocketOptions`], [`When`], [`SocketKind`].

mod handshake;
mod options;
mod pacing;

pub use handshake::{ack_at_once, join_ack};
pub use options::{SocketKind, SocketOptions, When};
pub use pacing::spare_loopback;
