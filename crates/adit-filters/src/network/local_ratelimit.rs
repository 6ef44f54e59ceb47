//! `envoy.filters.network.local_ratelimit`: a token for each connection.

use std::time::Duration;

use adit_config::proto::envoy::extensions::filters::network::local_ratelimit::v3 as pb;
use adit_filter::{BoxFuture, Connection, NetworkFilter, NetworkVerdict};
use adit_match::ConfigError;
use adit_stats::Counter;

use crate::Env;
use crate::bucket::TokenBucket;
use crate::unpack::refuse;

pub(super) struct Filter {
    bucket: TokenBucket,
    /// The runtime key that turns it off, and its default.
    enabled: (Box<str>, bool),
    limited: Counter,
}

impl Filter {
    pub fn new(message: &pb::LocalRateLimit, env: &Env<'_>, path: &str) -> Result<Self, ConfigError> {
        refuse(path, &[(!message.share_key.is_empty(), "share_key")])?;
        let bucket = message.token_bucket.as_ref();
        let bucket = bucket.ok_or_else(|| ConfigError::missing(format!("{path}.token_bucket")))?;
        let enabled = message.runtime_enabled.as_ref();
        Ok(Self {
            bucket: TokenBucket::from_proto(bucket, &format!("{path}.token_bucket"))?,
            enabled: enabled.map_or_else(
                || ("".into(), true),
                |flag| (flag.runtime_key.as_str().into(), flag.default_value.unwrap_or(true)),
            ),
            limited: env.root.scope(&format!("local_rate_limit.{}", message.stat_prefix)).counter("rate_limited"),
        })
    }
}

impl NetworkFilter for Filter {
    fn on_connection<'a>(&'a self, connection: &'a mut Connection) -> BoxFuture<'a, NetworkVerdict> {
        let (key, default) = &self.enabled;
        let verdict = if !connection.worker.runtime.flag(key, *default) || self.bucket.take() {
            NetworkVerdict::Continue
        } else {
            self.limited.inc();
            NetworkVerdict::Close { delay: Duration::ZERO, details: "local_ratelimit_close".into(), flag: None }
        };
        Box::pin(std::future::ready(verdict))
    }
}
