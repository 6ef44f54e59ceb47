//! `RequestMirrorPolicy`: who gets a copy of a request.

use adit_access_log::HeaderMutations;
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_match::{ConfigError, Fraction};
use pb::route_action::RequestMirrorPolicy;

use super::{Above, Builder};
use crate::table::authority;
use crate::table::route::{Mirror, ShadowHost};

impl Builder<'_> {
    pub(super) fn mirrors(&mut self, action: &pb::RouteAction, above: &Above<'_>, at: &str) -> Vec<Mirror> {
        // The most specific level that has any replaces those above it.
        let levels = [
            &action.request_mirror_policies,
            &above.host.request_mirror_policies,
            &self.message.request_mirror_policies,
        ];
        let Some(policies) = levels.into_iter().find(|level| !level.is_empty()) else { return Vec::new() };
        let mut mirrors = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            mirrors.extend(self.mirror(policy, &format!("{at}.request_mirror_policies[{index}]")));
        }
        mirrors
    }

    fn mirror(&mut self, policy: &RequestMirrorPolicy, at: &str) -> Option<Mirror> {
        self.refuse(policy.trace_sampled.is_some(), &format!("{at}.trace_sampled"));
        let cluster = match (policy.cluster.is_empty(), policy.cluster_header.is_empty()) {
            (false, true) => self.cluster(&policy.cluster, &format!("{at}.cluster")),
            (true, false) => self.cluster_header(&policy.cluster_header, &format!("{at}.cluster_header"))?,
            _ => {
                self.errors.push(ConfigError::new(at, "exactly one of cluster and cluster_header must be set"));
                return None;
            }
        };
        let fraction = policy.runtime_fraction.as_ref().map_or_else(Fraction::always, Fraction::from_runtime);
        let mutations =
            HeaderMutations::from_proto(&policy.request_headers_mutations, &format!("{at}.request_headers_mutations"))
                .map_err(|error| self.errors.push(error))
                .ok()?;
        let host = match policy.host_rewrite_literal.as_str() {
            "" if policy.disable_shadow_host_suffix_append => ShadowHost::Same,
            "" => ShadowHost::Suffixed,
            // Envoy appends nothing to it.
            literal => match authority(literal) {
                Some(literal) => ShadowHost::Literal(literal),
                None => {
                    self.errors.push(ConfigError::new(format!("{at}.host_rewrite_literal"), "not a host"));
                    return None;
                }
            },
        };
        Some(Mirror { cluster, fraction, runtime: self.ctx.runtime.clone(), host, mutations })
    }
}
