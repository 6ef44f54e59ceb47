//! Peers and fakes for tests: scripted TCP peers, payloads that know their own position, temporary directories.
//!
//! Deliberately unknown here: the product. Nothing of adit is used, so that every crate's tests can use this one.
//!
//! Read first: [`Peer`], [`tcp_pair`], [`Payload`].
//!
//! A development dependency only; it panics with a message where a test should fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dir;
mod payload;
mod peer;

pub use dir::TempDir;
pub use payload::{Check, Payload};
pub use peer::{End, PATIENCE, Peer, PeerReader, PeerWriter, eventually, expect_value, free_port, tcp_pair, within};
