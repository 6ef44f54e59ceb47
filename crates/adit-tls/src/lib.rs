//! rustls as a transport socket: handshakes for both sides, driven by Envoy's TLS messages, and the stream that comes of
//! one.
//!
//! Deliberately unknown here: listeners, clusters, filter chains, HTTP. An [`Io`](adit_io::Io) goes in and an `Io` of plain
//! bytes comes out, with what was settled in its [`TlsInfo`](adit_io::TlsInfo).
//!
//! Read first: [`Acceptor`], [`Connector`], [`TlsTransport`] (ends, resets and memory), [`inspect_client_hello`].
//!
//! The one crypto provider is aws-lc-rs, always given explicitly. [`CertificateStore`] watches the files and shows what is
//! in use; the server drives [`CertificateStore::run`].
//!
//! Floor F2.

mod acceptor;
mod certs;
mod config;
mod connector;
mod error;
mod hello;
mod info;
mod keylog;
mod names;
mod quic;
mod san;
mod scratch;
mod session;
mod stats;
mod store;
mod tickets;
mod transport;
mod verify;

pub use acceptor::Acceptor;
pub use connector::{ConnectOptions, Connector};
pub use error::{Fault, TlsError};
pub use hello::{ClientHello, Inspect, inspect_client_hello};
pub use store::{CertificateStore, TlsEnv};
pub use transport::TlsTransport;
