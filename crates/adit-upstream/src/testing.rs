//! Clusters from YAML, for unit tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use adit_config::{LoadOptions, Path, Source, load};
use adit_stats::Store;

use crate::{ClusterPlan, NoTransports, PlanEnv, SharedCluster, TransportBuilder};

/// The plan of a cluster, given its fields in flow style without braces.
pub(crate) fn plan(fields: &str) -> Result<Arc<ClusterPlan>, String> {
    plan_with(fields, &NoTransports)
}

pub(crate) fn plan_with(fields: &str, transports: &dyn TransportBuilder) -> Result<Arc<ClusterPlan>, String> {
    let text = format!("static_resources: {{ clusters: [{{ name: a, {fields} }}] }}");
    let loaded = load(&[Source::new("a.yaml", &text)], &LoadOptions::default()).map_err(|error| error.to_string())?;
    let cluster = loaded.bootstrap.static_resources.unwrap().clusters.remove(0);
    let store = Store::new(1);
    let env = PlanEnv { scope: &store.root(), transports, bind: None };
    ClusterPlan::from_proto(&cluster, &Path::from("c"), &env)
        .map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

pub(crate) fn shared(fields: &str) -> Arc<SharedCluster> {
    SharedCluster::new(plan(fields).unwrap())
}

/// A `load_assignment` of hosts `127.0.0.1:<port>`; `more` is added to each.
pub(crate) fn hosts(ports: impl IntoIterator<Item = (u16, &'static str)>) -> String {
    let endpoints: Vec<String> = ports
        .into_iter()
        .map(|(port, more)| {
            let address = format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
            format!("{{ endpoint: {{ address: {address} }} {more} }}")
        })
        .collect();
    format!("load_assignment: {{ cluster_name: a, endpoints: [{{ lb_endpoints: [{}] }}] }}", endpoints.join(", "))
}
