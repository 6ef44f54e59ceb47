//! A checked configuration becomes plans: what serving and validating have in common.

use std::collections::HashSet;
use std::sync::Arc;

use adit_access_log::{SinkOptions, Sinks};
use adit_config::proto::envoy::config::bootstrap::v3::Bootstrap;
use adit_config::proto::envoy::config::metrics::v3 as metrics;
use adit_config::proto::envoy::extensions::bootstrap::internal_listener::v3::InternalListener;
use adit_config::{Diagnostic, Loaded, Path, is, unpack};
use adit_filter::RuntimeValues;
use adit_listener::ListenerPlan;
use adit_match::StringMatcher;
use adit_stats::{Reject, Store, StoreOptions};
use adit_tls::{CertificateStore, TlsEnv};
use adit_upstream::{ClusterPlan, PlanEnv};
use metrics::stats_matcher::StatsMatcher;

use crate::admin::AdminPlan;
use crate::factories::ServerFactories;
use crate::options::Options;
use crate::runtime_layers::{self, Layers};
use adit_upstream::codec_stats::{Http2Stats, Http3Stats};

/// Everything that is made of a configuration before anything is bound.
pub(crate) struct Plans {
    pub(crate) store: Store,
    pub(crate) sinks: Sinks,
    pub(crate) runtime: RuntimeValues,
    pub(crate) layers: Layers,
    pub(crate) listeners: Vec<Arc<ListenerPlan>>,
    pub(crate) clusters: Vec<Arc<ClusterPlan>>,
    pub(crate) internal_buffer: adit_internal::Limits,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) admin: Arc<AdminPlan>,
    pub(crate) certificates: CertificateStore,
}

/// Makes the plans, or says all that is wrong.
pub(crate) fn build(loaded: Loaded, options: &Options, workers: usize) -> Result<Plans, Vec<Diagnostic>> {
    let Loaded { bootstrap, locations, .. } = loaded;
    let mut errors = Vec::new();
    let reject = stats_matcher(&bootstrap, &mut errors);
    let fixed_tags = stats_tags(&bootstrap, &mut errors);
    let store = Store::with_options(StoreOptions { workers, reject, fixed_tags });
    let scope = store.root();
    let runtime = RuntimeValues::default();
    let layers = runtime_layers::load(bootstrap.layered_runtime.as_ref(), &runtime);
    let sink_options =
        SinkOptions { flush_interval: options.file_flush_interval, flush_min_size: options.file_flush_min_size };
    let sinks = Sinks::new(sink_options, &scope, runtime.clone());
    let resources = bootstrap.static_resources.clone().unwrap_or_default();
    let at = Path::root().field("static_resources");
    let store_of_certificates = CertificateStore::new();
    let certificates =
        store_of_certificates.map_err(|error| vec![Diagnostic::error(Path::root(), error.to_string())])?;
    let tls = TlsEnv::new(&resources.secrets, certificates.clone());
    let transports = crate::transports::Upstream(tls.clone());
    let manager = bootstrap.cluster_manager.as_ref();
    let bind = manager.and_then(|manager| manager.upstream_bind_config.as_ref());
    let bind_path = Path::root().field("cluster_manager").field("upstream_bind_config");
    let env = PlanEnv { scope: &scope, transports: &transports, bind: bind.map(|bind| (bind, &bind_path)) };
    let mut clusters = Vec::new();
    for (index, cluster) in resources.clusters.iter().enumerate() {
        match ClusterPlan::from_proto(cluster, &at.item("clusters", index), &env) {
            Ok(plan) => clusters.push(plan),
            // What is wrong with what clusters share, each of them finds.
            Err(found) => found.into_iter().for_each(|one| {
                if !errors.contains(&one) {
                    errors.push(one);
                }
            }),
        }
    }
    let factories = ServerFactories {
        stats: scope.clone(),
        sinks: sinks.clone(),
        runtime: runtime.clone(),
        cluster_names: resources.clusters.iter().map(|cluster| cluster.name.clone()).collect(),
        service_cluster: service_cluster(&bootstrap, options),
        http2_stats: Arc::new(Http2Stats::new(&scope)),
        http3_stats: Arc::new(Http3Stats::new(&scope)),
        tls,
        workers,
    };
    let mut listeners = Vec::new();
    for (index, listener) in resources.listeners.iter().enumerate() {
        match ListenerPlan::from_proto(listener, &factories, &at.item("listeners", index)) {
            Ok(plan) => listeners.push(plan),
            Err(found) => errors.extend(found),
        }
    }
    let internal_buffer = internal_buffer(&bootstrap, &mut errors);
    let admin = Arc::new(admin(&bootstrap, &sinks, &mut errors));
    if !errors.is_empty() {
        return Err(unique(errors.into_iter().map(|error| locations.resolve(error))));
    }
    Ok(Plans { store, sinks, runtime, layers, listeners, clusters, internal_buffer, bootstrap, admin, certificates })
}

/// Two crates may object to the same thing: say it once.
fn unique(found: impl Iterator<Item = Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    found.filter(|one| seen.insert(one.to_string())).collect()
}

fn service_cluster(bootstrap: &Bootstrap, options: &Options) -> String {
    let node = bootstrap.node.as_ref().map(|node| node.cluster.clone()).unwrap_or_default();
    options.service_cluster.clone().unwrap_or(node)
}

fn admin(bootstrap: &Bootstrap, sinks: &Sinks, errors: &mut Vec<Diagnostic>) -> AdminPlan {
    let message = bootstrap.admin.clone().unwrap_or_default();
    let path = Path::root().field("admin");
    let allow = StringMatcher::list(&message.allow_paths, path.field("allow_paths").as_str());
    let allow = allow.map_err(|error| errors.push(Diagnostic::error(error.path, error.message))).unwrap_or_default();
    let logs = adit_access_log::build(&message.access_log, sinks, path.field("access_log").as_str());
    let logs = logs.map_err(|found| {
        errors.extend(found.into_iter().map(|error| Diagnostic::error(error.path, error.message)));
    });
    AdminPlan { logs: logs.unwrap_or_default(), allow }
}

/// `stats_config.stats_tags`: tags with a fixed value go on every metric.
fn stats_tags(bootstrap: &Bootstrap, errors: &mut Vec<Diagnostic>) -> Vec<(String, String)> {
    use metrics::tag_specifier::TagValue;
    let tags = bootstrap.stats_config.as_ref().map(|config| config.stats_tags.as_slice()).unwrap_or_default();
    let path = Path::root().field("stats_config");
    let mut fixed = Vec::new();
    for (index, tag) in tags.iter().enumerate() {
        match &tag.tag_value {
            Some(TagValue::FixedValue(value)) => fixed.push((tag.tag_name.clone(), value.clone())),
            _ => errors
                .push(Diagnostic::error(path.item("stats_tags", index), "only fixed_value is implemented by adit")),
        }
    }
    fixed
}

/// `buffer_size_kb` of the internal-listener extension; the last one counts.
fn internal_buffer(bootstrap: &Bootstrap, errors: &mut Vec<Diagnostic>) -> adit_internal::Limits {
    let mut limits = adit_internal::Limits::default();
    for (index, extension) in bootstrap.bootstrap_extensions.iter().enumerate() {
        let path = Path::root().item("bootstrap_extensions", index).field("typed_config");
        let Some(any) = extension.typed_config.as_ref().filter(|any| is::<InternalListener>(any)) else { continue };
        match unpack::<InternalListener>(any) {
            Ok(message) => {
                if let Some(kb) = message.buffer_size_kb {
                    match adit_internal::Limits::from_kb(kb) {
                        Some(found) => limits = found,
                        None => errors.push(Diagnostic::error(path.field("buffer_size_kb"), "must be from 1 to 8192")),
                    }
                }
            }
            Err(error) => errors.push(Diagnostic::error(&path, error.to_string())),
        }
    }
    limits
}

/// `stats_config.stats_matcher`: which metrics do not exist.
fn stats_matcher(bootstrap: &Bootstrap, errors: &mut Vec<Diagnostic>) -> Option<Reject> {
    let matcher = bootstrap.stats_config.as_ref()?.stats_matcher.as_ref()?;
    let path = Path::root().field("stats_config").field("stats_matcher");
    let mut list = |patterns: &[adit_config::proto::envoy::r#type::matcher::v3::StringMatcher], field: &str| {
        let mut made = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let at = path.field(field).item("patterns", index);
            match StringMatcher::from_proto(pattern, at.as_str()) {
                Ok(matcher) => made.push(matcher),
                Err(error) => errors.push(Diagnostic::error(error.path, error.message)),
            }
        }
        made
    };
    match matcher.stats_matcher.as_ref()? {
        StatsMatcher::RejectAll(all) => all.then(|| Box::new(|_: &str| true) as Reject),
        StatsMatcher::ExclusionList(patterns) => {
            let made = list(&patterns.patterns, "exclusion_list");
            Some(Box::new(move |name| made.iter().any(|matcher| matcher.matches(name))))
        }
        StatsMatcher::InclusionList(patterns) => {
            let made = list(&patterns.patterns, "inclusion_list");
            Some(Box::new(move |name| !made.iter().any(|matcher| matcher.matches(name))))
        }
    }
}
