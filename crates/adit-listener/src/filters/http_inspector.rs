//! Finds out whether a connection speaks HTTP in the clear (`envoy.filters.listener.http_inspector`).

use std::sync::Arc;

use adit_filter::{BoxFuture, ListenerFilter, ListenerFilterVerdict};
use adit_io::Io;
use adit_stats::{Counter, Scope};

/// The longest request line that is looked for, as in Envoy: 64 KiB.
const MAX_LINE: usize = 64 << 10;
/// How an HTTP/2 connection begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is taken for one.
const MAX_METHOD: usize = 32;

/// Tells by a connection's first bytes whether it speaks HTTP in the clear, and offers what it found as the application
/// protocol, for `FilterChainMatch.application_protocols`: `http/1.0`, `http/1.1` or `h2c`.
pub struct HttpInspector {
    read_error: Counter,
    http10_found: Counter,
    http11_found: Counter,
    http2_found: Counter,
    http_not_found: Counter,
}

/// What a connection's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpKind {
    /// Too few bytes to tell.
    Incomplete,
    /// A request line of HTTP/1.0.
    Http10,
    /// A request line of HTTP/1.1.
    Http11,
    /// The preface of HTTP/2.
    Http2,
    /// Something else.
    Other,
}

/// Looks at a connection's first bytes.
pub fn inspect_http(bytes: &[u8]) -> HttpKind {
    let common = bytes.len().min(PREFACE.len());
    if bytes.get(..common) == PREFACE.get(..common) {
        return if common == PREFACE.len() { HttpKind::Http2 } else { HttpKind::Incomplete };
    }
    let method = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')).count();
    if method > MAX_METHOD || (method < bytes.len() && (method == 0 || bytes.get(method) != Some(&b' '))) {
        return HttpKind::Other;
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let clean = bytes.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\r');
        return if clean && bytes.len() < MAX_LINE { HttpKind::Incomplete } else { HttpKind::Other };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(target), Some(version), None) if !target.is_empty() => match version {
            b"HTTP/1.1" => HttpKind::Http11,
            b"HTTP/1.0" => HttpKind::Http10,
            _ => HttpKind::Other,
        },
        _ => HttpKind::Other,
    }
}

impl HttpInspector {
    /// Counts at `http_inspector.` below `scope`.
    pub fn new(scope: &Scope) -> Self {
        let scope = scope.scope("http_inspector");
        Self {
            read_error: scope.counter("read_error"),
            http10_found: scope.counter("http10_found"),
            http11_found: scope.counter("http11_found"),
            http2_found: scope.counter("http2_found"),
            http_not_found: scope.counter("http_not_found"),
        }
    }

    async fn look(&self, io: &mut Io) -> ListenerFilterVerdict {
        // What a TLS inspector recognised is not HTTP in the clear.
        if io.info.transport == "tls" {
            return ListenerFilterVerdict::Continue;
        }
        let mut seen = 0;
        let kind = loop {
            let ahead = match io.fill(seen + 1, MAX_LINE).await {
                Ok(ahead) => ahead,
                Err(_) => {
                    self.read_error.inc();
                    return ListenerFilterVerdict::RemoteClose;
                }
            };
            match inspect_http(ahead) {
                HttpKind::Incomplete if ahead.len() > seen => seen = ahead.len(),
                HttpKind::Incomplete if ahead.is_empty() => return ListenerFilterVerdict::RemoteClose,
                kind => break kind,
            }
        };
        let protocol = match kind {
            HttpKind::Http10 => (&self.http10_found, "http/1.0"),
            HttpKind::Http11 => (&self.http11_found, "http/1.1"),
            HttpKind::Http2 => (&self.http2_found, "h2c"),
            HttpKind::Other | HttpKind::Incomplete => {
                self.http_not_found.inc();
                return ListenerFilterVerdict::Continue;
            }
        };
        protocol.0.inc();
        Arc::make_mut(&mut io.info).offered_alpn = vec![protocol.1.into()];
        ListenerFilterVerdict::Continue
    }
}

impl ListenerFilter for HttpInspector {
    fn accept<'a>(&'a self, io: &'a mut Io) -> BoxFuture<'a, ListenerFilterVerdict> {
        Box::pin(self.look(io))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_told_apart() {
        for (bytes, expected) in [
            (&b""[..], HttpKind::Incomplete),
            (b"GET / HTTP/1.1\r\n", HttpKind::Http11),
            (b"M-SEARCH * HTTP/1.1\n", HttpKind::Http11),
            (b"GET / HTTP/1.0\r\nhost: a\r\n", HttpKind::Http10),
            (b"CONNECT a:1 HTTP/1.1\r\n", HttpKind::Http11),
            (b"GET / HTTP/2.0\r\n", HttpKind::Other),
            (b"GET  HTTP/1.1\r\n", HttpKind::Other),
            (b"GET /\r\n", HttpKind::Other),
            (b"GET / x HTTP/1.1\r\n", HttpKind::Other),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HttpKind::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSMX", HttpKind::Other),
            (b"PRI", HttpKind::Incomplete),
            (b"\x16\x03\x01", HttpKind::Other),
            (b"GET /\x01", HttpKind::Other),
            (b" GET", HttpKind::Other),
        ] {
            assert_eq!(inspect_http(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_prefix_never_decides_otherwise() {
        for whole in [&b"GET /path HTTP/1.1\r\n"[..], PREFACE, b"PUT / HTTP/1.0\r\n"] {
            let decided = inspect_http(whole);
            for end in 0..whole.len() {
                let kind = inspect_http(whole.get(..end).unwrap_or_default());
                assert!(kind == HttpKind::Incomplete || kind == decided, "{end} {kind:?}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_given_up() {
        let mut line = b"GET /".to_vec();
        line.resize(MAX_LINE, b'a');
        assert_eq!(inspect_http(&line), HttpKind::Other);
    }
}
