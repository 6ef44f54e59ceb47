//! `lb_policy` and what belongs to it.

use adit_config::proto::envoy::config::cluster::v3::{self as pb, cluster};
use adit_config::proto::envoy::extensions::load_balancing_policies as policies;
use adit_config::{Path, is, unpack};

use super::Problems;

/// How a host is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct LbPlan {
    /// The algorithm within a priority.
    pub policy: LbPolicy,
    /// `healthy_panic_threshold` in per cent, 50 by default.
    pub panic_threshold: f64,
    /// `overprovisioning_factor` in per cent, 140 by default.
    pub overprovisioning: u32,
    /// `weighted_priority_health`.
    pub weighted_priority_health: bool,
    /// `locality_weighted_lb_config`.
    pub locality_weighted: bool,
    /// `use_hostname_for_hashing`.
    pub hash_by_hostname: bool,
}

impl Default for LbPlan {
    fn default() -> Self {
        Self {
            policy: LbPolicy::RoundRobin,
            panic_threshold: 50.0,
            overprovisioning: 140,
            weighted_priority_health: false,
            locality_weighted: false,
            hash_by_hostname: false,
        }
    }
}

/// The algorithm.
#[derive(Debug, Clone, PartialEq)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`, by weight.
    RoundRobin,
    /// `LEAST_REQUEST`.
    LeastRequest {
        /// `choice_count`, 2 by default.
        choices: u32,
        /// `active_request_bias`, 1 by default; used where weights differ.
        bias: f64,
    },
    /// `RANDOM`.
    Random,
    /// `RING_HASH`.
    RingHash {
        /// `minimum_ring_size`, 1024 by default.
        min: u64,
        /// `maximum_ring_size`, 8 Mi by default.
        max: u64,
    },
    /// `MAGLEV`.
    Maglev {
        /// `table_size`, 65537 by default: a prime.
        size: u64,
    },
    /// `CLUSTER_PROVIDED`: original destinations.
    ClusterProvided,
}

const RING: (u64, u64) = (1024, 8 << 20);
const MAGLEV: u64 = 65_537;

pub(super) fn lb_plan(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> LbPlan {
    let mut plan = LbPlan::default();
    common(message, path, &mut plan, problems);
    if let Some(policy) = &message.load_assignment.as_ref().and_then(|assignment| assignment.policy.as_ref()) {
        plan.overprovisioning = policy.overprovisioning_factor.unwrap_or(140);
        plan.weighted_priority_health = policy.weighted_priority_health;
    }
    plan.policy = match &message.load_balancing_policy {
        Some(chosen) => by_extension(chosen, &path.field("load_balancing_policy"), &mut plan, problems),
        None => by_enum(message, path, problems),
    };
    if let LbPolicy::RingHash { min, max } = plan.policy
        && min > max
    {
        let message = format!("minimum_ring_size ({min}) is above maximum_ring_size ({max})");
        problems.error(&path.field("ring_hash_lb_config"), message);
    }
    if let LbPolicy::Maglev { size } = plan.policy
        && !is_prime(size)
    {
        problems.error(&path.field("maglev_lb_config").field("table_size"), "must be a prime number");
    }
    plan
}

fn common(message: &pb::Cluster, path: &Path, plan: &mut LbPlan, problems: &mut Problems) {
    let Some(common) = &message.common_lb_config else { return };
    let path = path.field("common_lb_config");
    if let Some(percent) = &common.healthy_panic_threshold {
        plan.panic_threshold = percent.value;
    }
    match &common.locality_config_specifier {
        Some(cluster::common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
            plan.locality_weighted = true;
        }
        Some(cluster::common_lb_config::LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            problems.unsupported(&path.field("zone_aware_lb_config"));
        }
        None => {}
    }
    if let Some(hashing) = &common.consistent_hashing_lb_config {
        plan.hash_by_hostname = hashing.use_hostname_for_hashing;
        if hashing.hash_balance_factor.is_some() {
            problems.unsupported(&path.field("consistent_hashing_lb_config").field("hash_balance_factor"));
        }
    }
}

/// Draws of `LEAST_REQUEST` at most, which are all made in one turn; more would hardly find another host.
const MOST_CHOICES: u32 = 1024;

fn choices(count: Option<u32>) -> u32 {
    count.unwrap_or(2).clamp(2, MOST_CHOICES)
}

fn by_enum(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> LbPolicy {
    use cluster::LbConfig;
    use cluster::LbPolicy as Policy;
    match Policy::try_from(message.lb_policy).unwrap_or(Policy::RoundRobin) {
        Policy::RoundRobin => LbPolicy::RoundRobin,
        Policy::Random => LbPolicy::Random,
        Policy::ClusterProvided => LbPolicy::ClusterProvided,
        Policy::LeastRequest => {
            let (mut choices, mut bias) = (2, 1.0);
            if let Some(LbConfig::LeastRequestLbConfig(config)) = &message.lb_config {
                choices = self::choices(config.choice_count);
                bias = config.active_request_bias.as_ref().map_or(1.0, |bias| bias.default_value);
            }
            LbPolicy::LeastRequest { choices, bias }
        }
        Policy::RingHash => {
            let (mut min, mut max) = RING;
            if let Some(LbConfig::RingHashLbConfig(config)) = &message.lb_config {
                min = config.minimum_ring_size.unwrap_or(min);
                max = config.maximum_ring_size.unwrap_or(max);
                if config.hash_function != 0 {
                    problems.unsupported(&path.field("ring_hash_lb_config").field("hash_function"));
                }
            }
            LbPolicy::RingHash { min, max }
        }
        Policy::Maglev => {
            let size = match &message.lb_config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size.unwrap_or(MAGLEV),
                _ => MAGLEV,
            };
            LbPolicy::Maglev { size }
        }
        Policy::LoadBalancingPolicyConfig => {
            problems.error(&path.field("load_balancing_policy"), "value is required");
            LbPolicy::RoundRobin
        }
    }
}

/// The first policy of the list that we know, as Envoy does.
fn by_extension(
    message: &pb::LoadBalancingPolicy,
    path: &Path,
    plan: &mut LbPlan,
    problems: &mut Problems,
) -> LbPolicy {
    for (index, policy) in message.policies.iter().enumerate() {
        let path = path.item("policies", index).field("typed_extension_config").field("typed_config");
        let any = policy.typed_extension_config.as_ref().and_then(|config| config.typed_config.as_ref());
        if let Some(policy) = any.and_then(|any| one_extension(any, &path, plan, problems)) {
            return policy;
        }
    }
    problems.error(path, "none of the policies is supported");
    LbPolicy::RoundRobin
}

fn one_extension(any: &prost_types::Any, path: &Path, plan: &mut LbPlan, problems: &mut Problems) -> Option<LbPolicy> {
    if let Ok(config) = unpack::<policies::round_robin::v3::RoundRobin>(any) {
        locality(config.locality_lb_config.as_ref(), path, plan, problems);
        Some(LbPolicy::RoundRobin)
    } else if let Ok(config) = unpack::<policies::random::v3::Random>(any) {
        locality(config.locality_lb_config.as_ref(), path, plan, problems);
        Some(LbPolicy::Random)
    } else if is::<policies::cluster_provided::v3::ClusterProvided>(any) {
        Some(LbPolicy::ClusterProvided)
    } else if let Ok(config) = unpack::<policies::least_request::v3::LeastRequest>(any) {
        locality(config.locality_lb_config.as_ref(), path, plan, problems);
        Some(LbPolicy::LeastRequest {
            choices: self::choices(config.choice_count),
            bias: config.active_request_bias.as_ref().map_or(1.0, |bias| bias.default_value),
        })
    } else if let Ok(config) = unpack::<policies::ring_hash::v3::RingHash>(any) {
        Some(ring_extension(&config, path, plan, problems))
    } else if let Ok(config) = unpack::<policies::maglev::v3::Maglev>(any) {
        plan.locality_weighted |= config.locality_weighted_lb_config.is_some();
        hashing(config.consistent_hashing_lb_config.as_ref(), plan);
        Some(LbPolicy::Maglev { size: config.table_size.unwrap_or(MAGLEV) })
    } else {
        None
    }
}

#[allow(deprecated, reason = "Envoy still accepts them")]
fn ring_extension(
    config: &policies::ring_hash::v3::RingHash,
    path: &Path,
    plan: &mut LbPlan,
    problems: &mut Problems,
) -> LbPolicy {
    if config.hash_function > 1 {
        problems.unsupported(&path.field("hash_function"));
    }
    plan.hash_by_hostname |= config.use_hostname_for_hashing;
    plan.locality_weighted |= config.locality_weighted_lb_config.is_some();
    hashing(config.consistent_hashing_lb_config.as_ref(), plan);
    let (min, max) = RING;
    LbPolicy::RingHash { min: config.minimum_ring_size.unwrap_or(min), max: config.maximum_ring_size.unwrap_or(max) }
}

fn hashing(config: Option<&policies::common::v3::ConsistentHashingLbConfig>, plan: &mut LbPlan) {
    plan.hash_by_hostname |= config.is_some_and(|config| config.use_hostname_for_hashing);
}

fn locality(
    config: Option<&policies::common::v3::LocalityLbConfig>,
    path: &Path,
    plan: &mut LbPlan,
    problems: &mut Problems,
) {
    use policies::common::v3::locality_lb_config::LocalityConfigSpecifier as Specifier;
    match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        Some(Specifier::LocalityWeightedLbConfig(_)) => plan.locality_weighted = true,
        Some(Specifier::ZoneAwareLbConfig(_)) => problems.unsupported(&path.field("locality_lb_config")),
        None => {}
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
