//! What a codec may be told: plain values, filled by whoever reads the configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Spelling of field names on the wire (`http_protocol_options.header_key_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderCase {
    /// `content-type`.
    #[default]
    Lower,
    /// `Content-Type` (`proper_case_words`).
    ProperWords,
}

/// Says of one token of an `Upgrade` field whether it is to be ignored (`ignore_http_11_upgrade`).
#[derive(Clone)]
pub struct TokenMatcher(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl TokenMatcher {
    /// A matcher from a closure over one trimmed token.
    pub fn new(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(matches))
    }

    pub(crate) fn matches(&self, token: &str) -> bool {
        (self.0)(token)
    }
}

impl fmt::Debug for TokenMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenMatcher")
    }
}

/// The serving side.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one field of Envoy's Http1ProtocolOptions")]
pub struct ServerConfig {
    /// `max_request_headers_kb`, in bytes: request line and fields of one head, also of one trailer section.
    pub max_head_bytes: usize,
    /// `common_http_protocol_options.max_headers_count`.
    pub max_headers: usize,
    /// `accept_http_10`; otherwise HTTP/1.0 is answered 426.
    pub accept_http_10: bool,
    /// `default_host_for_http_10`: the authority of an HTTP/1.0 request without Host.
    pub default_host_for_http_10: Option<http::uri::Authority>,
    /// `allow_absolute_url`; otherwise an absolute target is answered 404.
    pub allow_absolute_url: bool,
    /// `allow_custom_methods`; otherwise a method that Envoy's parser does not know is answered 400.
    pub allow_custom_methods: bool,
    /// `allow_chunked_length`: Transfer-Encoding beats Content-Length instead of a 400.
    pub allow_chunked_length: bool,
    /// `enable_trailers`: trailers are given out and sent; otherwise they are dropped.
    pub enable_trailers: bool,
    /// `proxy_100_continue` of the connection manager: `expect` stays in the head and nothing is answered here.
    pub proxy_100_continue: bool,
    /// `ignore_http_11_upgrade`.
    pub ignore_upgrade: Option<TokenMatcher>,
    /// `header_key_format`.
    pub header_case: HeaderCase,
    /// `delayed_close_timeout`: how long input is read and discarded after a closing answer. Zero closes at once.
    pub delayed_close_timeout: Duration,
    /// `request_headers_timeout`: from a head's first byte to its last; then a 408.
    pub request_headers_timeout: Option<Duration>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_head_bytes: 60 << 10,
            max_headers: 100,
            accept_http_10: false,
            default_host_for_http_10: None,
            allow_absolute_url: true,
            allow_custom_methods: true,
            allow_chunked_length: false,
            enable_trailers: false,
            proxy_100_continue: false,
            ignore_upgrade: None,
            header_case: HeaderCase::Lower,
            delayed_close_timeout: Duration::from_secs(1),
            request_headers_timeout: None,
        }
    }
}

/// The requesting side.
#[derive(Debug, Clone, Copy)]
pub struct ClientConfig {
    /// Status line and fields of one head, also of one trailer section, in bytes (`max_response_headers_kb`).
    pub max_head_bytes: usize,
    /// `common_http_protocol_options.max_headers_count`.
    pub max_headers: usize,
    /// Interim responses (1xx) taken before the final one; more are an error.
    pub max_interim: u16,
    /// `enable_trailers`.
    pub enable_trailers: bool,
    /// `allow_chunked_length`: Transfer-Encoding beats Content-Length instead of an error.
    pub allow_chunked_length: bool,
    /// `send_fully_qualified_url`: the target in absolute form.
    pub send_fully_qualified_url: bool,
    /// `header_key_format`.
    pub header_case: HeaderCase,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            max_head_bytes: 60 << 10,
            max_headers: 100,
            max_interim: 100,
            enable_trailers: false,
            allow_chunked_length: false,
            send_fully_qualified_url: false,
            header_case: HeaderCase::Lower,
        }
    }
}
