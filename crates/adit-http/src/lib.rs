//! The version-free HTTP model: what a request, a response and their failures are, before any codec.
//!
//! Deliberately unknown here: sockets, clocks, frames, configuration. Codecs translate to and from this model at their
//! own edge, so everything between two codecs is free of the HTTP version.
//!
//! Read first: [`RequestHead`] with its [`RequestKind`], [`ErrorCode`], [`StreamError`].
//!
//! The canonical form is HTTP/1's, as in Envoy: an upgrade keeps its `upgrade` and `connection` fields in the header map and
//! is answered by a 101; a plain CONNECT has no path. HTTP/2 and HTTP/3 codecs turn extended CONNECT into this form and
//! back with [`translate`].
//!
//! Floor F0: pure.

pub mod capsule;
pub mod compression;
mod error;
mod head;
pub mod hop_by_hop;
pub mod pseudo;
pub mod target;
pub mod translate;
mod udp_template;
pub mod websocket;

/// Fields that a message may have, whatever `max_headers_count` allows: a [`http::HeaderMap`] holds 24,576 names and panics at
/// one more. What is left is for fields that are added on the way.
pub const MAX_FIELDS: usize = 16_384;

pub use error::{ErrorCode, StreamError};
pub use head::{RequestHead, RequestKind, ResponseHead, Scheme, Token};
pub use target::ConnectTarget;
pub use udp_template::{TemplateError, UdpTemplate};
