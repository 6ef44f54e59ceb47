//! Metrics under Envoy's names that are known once the plans are made, and those that count what cannot happen here: they
//! exist at 0, so that dashboards and alerts find them.

use adit_stats::{Scope, Store};

use crate::build::Plans;

/// Makes them all.
pub(crate) fn register(plans: &Plans, workers: usize, version: &str) {
    let root = plans.store.root();
    clusters(&root, plans.clusters.len() as u64, workers);
    listeners(&root, plans.listeners.len() as u64);
    runtime(&root, plans);
    server(&plans.store, workers);
    plans.store.root().scope("server").gauge("version").set(commit(version));
}

fn zeros(scope: &Scope, names: &[&str]) {
    for name in names {
        let _ = scope.counter(name);
    }
}

/// Clusters come with the bootstrap and never change.
fn clusters(root: &Scope, count: u64, workers: usize) {
    let manager = root.scope("cluster_manager");
    manager.gauge("active_clusters").set(count);
    let _ = manager.gauge("warming_clusters");
    manager.counter("cluster_added").add(count);
    zeros(
        &manager,
        &[
            "cluster_modified",
            "cluster_removed",
            "cluster_updated",
            "cluster_updated_via_merge",
            "update_merge_cancelled",
            "update_out_of_merge_window",
        ],
    );
    let local = root.scope("thread_local_cluster_manager");
    local.scope("main_thread").gauge("clusters_inflated").set(count);
    for worker in 0..workers {
        local.worker(worker).gauge("clusters_inflated").set(count);
    }
}

/// So do listeners. `listener_manager.total_listeners_active` and `workers_started` follow the moment.
fn listeners(root: &Scope, count: u64) {
    let manager = root.scope("listener_manager");
    manager.counter("listener_added").add(count);
    manager.counter("listener_create_success").add(count);
    zeros(
        &manager,
        &[
            "listener_create_failure",
            "listener_in_place_updated",
            "listener_modified",
            "listener_removed",
            "listener_stopped",
        ],
    );
    for name in
        ["total_filter_chains_draining", "total_listeners_draining", "total_listeners_warming", "workers_pinned"]
    {
        let _ = manager.gauge(name);
    }
}

fn runtime(root: &Scope, plans: &Plans) {
    let runtime = root.scope("runtime");
    runtime.counter("load_success").inc();
    zeros(&runtime, &["deprecated_feature_use", "load_error", "override_dir_exists", "override_dir_not_exists"]);
    let keys: std::collections::BTreeSet<&str> =
        plans.layers.values.iter().flatten().map(|(key, _)| key.as_str()).collect();
    runtime.gauge("num_keys").set(keys.len() as u64);
    runtime.gauge("num_layers").set(plans.layers.names.len() as u64);
    for name in ["admin_overrides_active", "deprecated_feature_seen_since_process_start"] {
        let _ = runtime.gauge(name);
    }
}

/// There is no watchdog, no overload manager and no hot restart.
fn server(store: &Store, workers: usize) {
    let (root, server) = (store.root(), store.root().scope("server"));
    let misses = ["watchdog_mega_miss", "watchdog_miss"];
    for scope in [root.scope("main_thread"), root.scope("workers"), server.scope("main_thread")] {
        zeros(&scope, &misses);
    }
    for worker in 0..workers {
        zeros(&server.worker(worker), &misses);
    }
    zeros(&server, &["dropped_stat_flushes", "envoy_notifications"]);
    zeros(&root, &["envoy.overload_actions.reset_high_memory_stream.count"]);
    let _ = root.histogram("overload.refresh_interval_delay");
    let _ = server.histogram("initialization_time_ms");
    for name in ["compilation_settings.fips_mode", "seconds_until_first_ocsp_response_expiring", "stats_recent_lookups"]
    {
        let _ = server.gauge(name);
    }
}

/// The commit that a version begins with, as a number: its first six hexadecimal digits, as Envoy has it.
fn commit(version: &str) -> u64 {
    u64::from_str_radix(version.get(..6).unwrap_or_default(), 16).unwrap_or(0)
}
