//! `envoy.filters.network.rbac`: lets connections in by rules.

use std::time::Duration;

use adit_config::proto::envoy::extensions::filters::network::rbac::v3 as pb;
use adit_filter::{BoxFuture, Connection, NetworkFilter, NetworkVerdict};
use adit_match::ConfigError;
use adit_match::rbac::Subject;

use crate::Env;
use crate::http::{Rules, RulesMessage};
use crate::unpack::refuse;

/// Rules see a connection once, when it is accepted. Envoy waits for its first byte, and with CONTINUOUS looks again at
/// each: what its rules see does not change by then, except dynamic metadata that a filter sets from payload.
pub(super) struct Filter {
    rules: Rules,
    delay: Duration,
}

impl Filter {
    pub fn new(message: &pb::Rbac, env: &Env<'_>, path: &str) -> Result<Self, ConfigError> {
        refuse(path, &[(message.matcher.is_some(), "matcher"), (message.shadow_matcher.is_some(), "shadow_matcher")])?;
        let rules = RulesMessage {
            rules: message.rules.as_ref(),
            shadow: message.shadow_rules.as_ref(),
            prefix: "",
            shadow_prefix: &message.shadow_rules_stat_prefix,
        };
        let prefix = message.stat_prefix.trim_end_matches('.');
        let scope = env.root.tagged(&format!("{prefix}.rbac"), "rbac", &[(adit_stats::tag::RBAC_PREFIX, prefix)]);
        let delay = message.delay_deny.as_ref().map(adit_config::duration).unwrap_or_default();
        Ok(Self { rules: Rules::new(&rules, &scope, path)?, delay })
    }
}

impl NetworkFilter for Filter {
    fn on_connection<'a>(&'a self, connection: &'a mut Connection) -> BoxFuture<'a, NetworkVerdict> {
        let io = &mut connection.io;
        let subject = Subject { head: None, conn: &io.info, state: &io.state, metadata: &io.metadata };
        let (denied, metadata) = self.rules.judge(&subject, "envoy.filters.network.rbac");
        io.metadata = metadata;
        let verdict = match denied {
            None => NetworkVerdict::Continue,
            Some(details) => NetworkVerdict::Close { delay: self.delay, details, flag: None },
        };
        Box::pin(std::future::ready(verdict))
    }
}
