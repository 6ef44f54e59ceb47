//! The HTTP/1.1 codec, both sides: a sans-io parser and serializer, and a thin shell of I/O around them. Start lines are
//! httparse's, but for those that nearly every message has; field lines are judged by the types that they become.
//!
//! Deliberately unknown here: configuration files, routes, filters, pools, other HTTP versions. What Envoy's protocol
//! options say comes in as the plain [`ServerConfig`] and [`ClientConfig`].
//!
//! Read first: [`server`] and [`client`]; then `request`, `response`, `section` and `decode` for what is taken and refused, `slot`
//! for how a connection and its one stream share the socket.
//!
//! How a connection works: it owns a reader and a writer. While an exchange is on, the reader lives in its receiving half
//! and the writer in its sending half; both come back when their direction is over, and the next message follows. An
//! accepted upgrade or CONNECT never gives them back: the halves have become the tunnel. Idle, neither holds a buffer.
//!
//! A client's FIN behind a complete request is a half-close: the answer is still sent. Only a reset cancels.
//!
//! Floor F2.

mod client;
mod config;
mod decode;
mod encode;
mod fields;
mod io;
pub mod probe;
mod recv;
mod refuse;
mod request;
mod response;
mod scan;
mod section;
mod send;
mod server;
mod slot;
mod target;

use std::sync::Arc;

use adit_codec::ClientParts;
use adit_io::Io;

pub use client::Client;
pub use config::{ClientConfig, HeaderCase, ServerConfig, TokenMatcher};
pub use server::{Event, Owner, Server, answer_size};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Serves HTTP/1.1 on a connection.
pub fn server(io: Io, cfg: Arc<ServerConfig>) -> Server {
    Server::new(io, cfg, None)
}

/// As [`server`], for somebody who words what it refuses and hears what it does unasked. A task that polls a stream and
/// its connection must poll the connection after the stream: it is not woken to do so.
pub fn server_for(io: Io, cfg: Arc<ServerConfig>, owner: Arc<dyn Owner>) -> Server {
    Server::new(io, cfg, Some(owner))
}

/// Sends HTTP/1.1 requests on a connection, one at a time.
pub fn client(io: Io, cfg: Arc<ClientConfig>) -> Client {
    Client::new(io, cfg)
}

/// As [`client`], in the form that pools take: streams drive the connection themselves.
pub fn client_parts(io: Io, cfg: Arc<ClientConfig>) -> ClientParts {
    ClientParts { conn: Box::new(client(io, cfg)), driver: None }
}

#[cfg(test)]
mod size_tests;
