//! Which HTTP version a new connection speaks, and its codec.

use adit_codec::ClientParts;
use adit_http::StreamError;
use adit_io::Io;
use http::Version;

use crate::plan::{HttpOptions, HttpProtocol};

/// Makes the codec of a new connection. The product's is [`Codecs`]; tests have their own.
pub trait CodecFactory: Send + Sync {
    /// A codec of this version over a connection whose transport socket is done.
    fn client(&self, version: Version, io: Io, options: &HttpOptions) -> Result<ClientParts, StreamError>;
}

/// The codecs of adit.
pub struct Codecs;

impl CodecFactory for Codecs {
    fn client(&self, version: Version, io: Io, options: &HttpOptions) -> Result<ClientParts, StreamError> {
        match version {
            Version::HTTP_2 => Ok(adit_h2::client(io, options.h2.clone())),
            // It is not over a stream: the pool makes it of a QUIC connection.
            Version::HTTP_3 => Err(StreamError::Protocol("HTTP/3 over a byte stream")),
            _ => Ok(adit_h1::client_parts(io, options.h1.clone())),
        }
    }
}

/// What to offer in ALPN.
pub(crate) fn alpn(wanted: Option<Version>) -> &'static [&'static str] {
    match wanted {
        Some(Version::HTTP_2) => &["h2"],
        // QUIC puts its own in.
        Some(Version::HTTP_3) => &[],
        Some(_) => &["http/1.1"],
        None => &["h2", "http/1.1"],
    }
}

/// The version that is known before the handshake; `None` when ALPN decides.
pub(crate) fn wanted(options: &HttpOptions, downstream: Option<Version>) -> Option<Version> {
    match options.protocol {
        HttpProtocol::Explicit(version) => Some(version),
        HttpProtocol::Downstream => Some(match downstream {
            Some(Version::HTTP_3) if options.h3.is_some() => Version::HTTP_3,
            Some(Version::HTTP_2 | Version::HTTP_3) => Version::HTTP_2,
            _ => Version::HTTP_11,
        }),
        HttpProtocol::Auto => None,
    }
}

/// The version after the handshake.
pub(crate) fn settled(wanted: Option<Version>, io: &Io) -> Version {
    let chosen = || io.info.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
    wanted.unwrap_or_else(|| if chosen() == Some("h2") { Version::HTTP_2 } else { Version::HTTP_11 })
}
