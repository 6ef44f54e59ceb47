//! `tunneling_config`

use std::time::Duration;

use adit_access_log::{Format, HeaderAdder};
use adit_config::proto::envoy::config::core::v3::BackoffStrategy;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::v3 as pb;
use adit_config::{Diagnostic, Path, duration};
use adit_match::ConfigError;
use http::uri::PathAndQuery;
use pb::udp_proxy_config::UdpTunnelingConfig;

/// `buffer_options.max_buffered_datagrams` where it is absent.
const DEFAULT_BUFFERED_DATAGRAMS: u32 = 1024;
/// `buffer_options.max_buffered_bytes` where it is absent.
const DEFAULT_BUFFERED_BYTES: u64 = 16_384;
/// `backoff_options.max_interval` where it is absent, in `base_interval`s.
const DEFAULT_MAX_BACKOFF: u32 = 10;

/// How sessions are tunnelled.
pub(crate) struct TunnelPlan {
    pub(crate) proxy_host: Format,
    pub(crate) proxy_port: Option<u16>,
    pub(crate) target_host: Format,
    pub(crate) target_port: u16,
    /// `use_post`, and where to.
    pub(crate) post: Option<PathAndQuery>,
    pub(crate) max_connect_attempts: u32,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) headers: HeaderAdder,
    /// What may wait for the tunnel; `None` for nothing.
    pub(crate) buffer: Option<BufferLimits>,
    pub(crate) propagate_headers: bool,
    pub(crate) propagate_trailers: bool,
}

/// `buffer_options`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferLimits {
    pub(crate) datagrams: usize,
    pub(crate) bytes: usize,
}

/// `backoff_options`: full jitter, as Envoy's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// The pause before attempt `attempt`, which counts from 2.
    pub(crate) fn pause(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(2).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max).mul_f64(fastrand::f64())
    }

    fn from_proto(message: &BackoffStrategy, path: &Path) -> Result<Self, Diagnostic> {
        let Some(base) = message.base_interval.as_ref().map(duration) else {
            return Err(Diagnostic::error(path.field("base_interval"), "value is required"));
        };
        let max = message.max_interval.as_ref().map_or(base.saturating_mul(DEFAULT_MAX_BACKOFF), duration);
        if max < base {
            let text = "max_backoff_interval must be greater or equal to base_backoff_interval";
            return Err(Diagnostic::error(path.field("max_interval"), text));
        }
        Ok(Self { base, max })
    }
}

impl TunnelPlan {
    pub(super) fn from_proto(message: &UdpTunnelingConfig, path: &Path) -> Result<Self, Diagnostic> {
        let at = |field: &str| path.field(field);
        let format = |text: &str, field: &str| Format::parse(text).map_err(|error| Diagnostic::error(at(field), error));
        let headers = HeaderAdder::from_proto(&message.headers_to_add, at("headers_to_add").as_str(), &[], "");
        let retry = message.retry_options.unwrap_or_default();
        let backoff_path = at("retry_options").field("backoff_options");
        let backoff = retry.backoff_options.as_ref().map(|message| Backoff::from_proto(message, &backoff_path));
        Ok(Self {
            proxy_host: format(&message.proxy_host, "proxy_host")?,
            proxy_port: message.proxy_port.map(|value| port(value, &at("proxy_port"))).transpose()?,
            target_host: format(&message.target_host, "target_host")?,
            target_port: port(message.default_target_port, &at("default_target_port"))?,
            post: post(message, path)?,
            max_connect_attempts: retry.max_connect_attempts.unwrap_or(1).max(1),
            backoff: backoff.transpose()?,
            headers: headers.map_err(|ConfigError { path, message }| Diagnostic::error(path, message))?,
            buffer: message.buffer_options.map(|options| BufferLimits {
                datagrams: options.max_buffered_datagrams.unwrap_or(DEFAULT_BUFFERED_DATAGRAMS) as usize,
                bytes: usize::try_from(options.max_buffered_bytes.unwrap_or(DEFAULT_BUFFERED_BYTES))
                    .unwrap_or(usize::MAX),
            }),
            propagate_headers: message.propagate_response_headers,
            propagate_trailers: message.propagate_response_trailers,
        })
    }
}

fn port(value: u32, path: &Path) -> Result<u16, Diagnostic> {
    let port = u16::try_from(value).ok().filter(|port| *port > 0);
    port.ok_or_else(|| Diagnostic::error(path, "value must be inside range (0, 65535]"))
}

fn post(message: &UdpTunnelingConfig, path: &Path) -> Result<Option<PathAndQuery>, Diagnostic> {
    let at = path.field("post_path");
    match (message.use_post, message.post_path.as_str()) {
        (false, "") => Ok(None),
        (false, _) => Err(Diagnostic::error(at, "Can't set a post path when POST method isn't used")),
        (true, "") => Ok(Some(PathAndQuery::from_static("/"))),
        (true, text) => PathAndQuery::try_from(text)
            .map(Some)
            .map_err(|error| Diagnostic::error(at, format!("'{text}' is not a path: {error}"))),
    }
}
