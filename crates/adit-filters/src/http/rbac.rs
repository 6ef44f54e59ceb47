//! `envoy.filters.http.rbac`: lets requests in by rules.

use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::http::rbac::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, LocalReply, Verdict};
use adit_io::{Metadata, Value};
use adit_match::ConfigError;
use adit_match::rbac::{Action, Decision, Engine, Subject};
use adit_stats::{Counter, Scope};
use http::StatusCode;

use super::{RouteConfig, settings};
use crate::Env;
use crate::unpack::refuse;

/// Rules, shadow rules, and what counts them.
pub(crate) struct Rules {
    enforced: Option<Engine>,
    shadow: Option<Engine>,
    /// In front of the shadow engine's metadata keys.
    shadow_prefix: Box<str>,
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
}

/// The rules of either kind, as both messages have them.
pub(crate) struct RulesMessage<'a> {
    pub rules: Option<&'a adit_config::proto::envoy::config::rbac::v3::Rbac>,
    pub shadow: Option<&'a adit_config::proto::envoy::config::rbac::v3::Rbac>,
    pub prefix: &'a str,
    pub shadow_prefix: &'a str,
}

impl Rules {
    /// `scope` is the one that ends in `rbac.`.
    pub fn new(message: &RulesMessage<'_>, scope: &Scope, path: &str) -> Result<Self, ConfigError> {
        let engine = |rules: Option<_>, field: &str| {
            rules.map(|rules| Engine::from_proto(rules, &format!("{path}.{field}"))).transpose()
        };
        let counter = |prefix: &str, name: &str| scope.counter(&format!("{prefix}{name}"));
        Ok(Self {
            enforced: engine(message.rules, "rules")?,
            shadow: engine(message.shadow, "shadow_rules")?,
            shadow_prefix: message.shadow_prefix.into(),
            allowed: counter(message.prefix, "allowed"),
            denied: counter(message.prefix, "denied"),
            shadow_allowed: counter(message.shadow_prefix, "shadow_allowed"),
            shadow_denied: counter(message.shadow_prefix, "shadow_denied"),
        })
    }

    /// Judges, counts, and leaves its findings in `metadata` under `namespace`. The details of a refusal, if it is one.
    pub fn judge(&self, subject: &Subject<'_>, namespace: &str) -> (Option<String>, Metadata) {
        let mut metadata = subject.metadata.clone();
        if let Some(engine) = &self.shadow {
            let decision = engine.decide(subject);
            let counter = if decision.allowed { &self.shadow_allowed } else { &self.shadow_denied };
            counter.inc();
            leave(&mut metadata, namespace, &format!("{}shadow", self.shadow_prefix), &decision);
        }
        let Some(engine) = &self.enforced else { return (None, metadata) };
        let decision = engine.decide(subject);
        if engine.action() == Action::Log {
            let hint = ("access_log_hint".into(), Value::Bool(decision.policy.is_some()));
            metadata.merge("envoy.common", [hint]);
        }
        leave(&mut metadata, namespace, "enforced", &decision);
        if decision.allowed {
            self.allowed.inc();
            return (None, metadata);
        }
        self.denied.inc();
        (Some(decision.denied_details()), metadata)
    }
}

fn leave(metadata: &mut Metadata, namespace: &str, engine: &str, decision: &Decision<'_>) {
    let result = if decision.allowed { "allowed" } else { "denied" };
    let result = (format!("{engine}_engine_result").into(), Value::String(result.into()));
    let policy =
        decision.policy.map(|policy| (format!("{engine}_effective_policy_id").into(), Value::String(policy.into())));
    metadata.merge(namespace, [result].into_iter().chain(policy));
}

pub(super) struct Factory(Arc<Rules>);

impl Factory {
    pub fn new(message: &pb::Rbac, env: &Env<'_>, path: &str) -> Result<Self, ConfigError> {
        rules(Some(message), env, path).map(|rules| Self(Arc::new(rules)))
    }
}

/// Without rules of its own, a route lets everything in.
pub(super) fn route(message: &pb::RbacPerRoute, env: &Env<'_>, path: &str) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(rules(message.rbac.as_ref(), env, &format!("{path}.rbac"))?))
}

fn rules(message: Option<&pb::Rbac>, env: &Env<'_>, path: &str) -> Result<Rules, ConfigError> {
    let default = pb::Rbac::default();
    let message = message.unwrap_or(&default);
    refuse(
        path,
        &[
            (message.matcher.is_some(), "matcher"),
            (message.shadow_matcher.is_some(), "shadow_matcher"),
            (message.track_per_rule_stats, "track_per_rule_stats"),
        ],
    )?;
    let rules = RulesMessage {
        rules: message.rules.as_ref(),
        shadow: message.shadow_rules.as_ref(),
        prefix: &message.rules_stat_prefix,
        shadow_prefix: &message.shadow_rules_stat_prefix,
    };
    Rules::new(&rules, &env.http.scope("rbac"), path)
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        let rules = settings(&self.0, per_route);
        let any = rules.enforced.is_some() || rules.shadow.is_some();
        any.then(|| Box::new(Filter(rules)) as Box<dyn HttpFilter>)
    }
}

struct Filter(Arc<Rules>);

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _: bool) -> Verdict {
        let subject = Subject::request(&stream.request, &stream.info);
        let (denied, metadata) = self.0.judge(&subject, "envoy.filters.http.rbac");
        stream.info.metadata = metadata;
        match denied {
            None => Verdict::Continue,
            Some(details) => {
                Verdict::Reply(LocalReply::new(StatusCode::FORBIDDEN, details).body("RBAC: access denied"))
            }
        }
    }
}
