//! STRICT_DNS and LOGICAL_DNS: names resolved again and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_io::Address;

use crate::cluster::SharedCluster;
use crate::host::HostFacts;
use crate::plan::{Discovery, DnsFamily, DnsPlan, EndpointAddress, EndpointPlan};

/// One lookup takes no longer than this; the resolver's own attempts are shorter.
const LOOKUP: Duration = Duration::from_secs(30);

/// Resolves until dropped; calls `first` once, after the first answers, good or bad.
pub(crate) async fn run(cluster: Arc<SharedCluster>, first: impl FnOnce()) {
    let plan = cluster.plan().clone();
    let (endpoints, dns, logical) = match &plan.discovery {
        Discovery::StrictDns(endpoints, dns) => (endpoints.as_slice(), *dns, false),
        Discovery::LogicalDns(endpoint, dns) => (std::slice::from_ref(&**endpoint), *dns, true),
        Discovery::Static(_) | Discovery::OriginalDst(_) => return,
    };
    let mut first = Some(first);
    // A name that fails keeps its last addresses.
    let mut known: Vec<Vec<SocketAddr>> = vec![Vec::new(); endpoints.len()];
    let mut failures = 0;
    loop {
        let stats = &cluster.core().stats.membership;
        stats.update_attempt.inc();
        let mut failed = false;
        for (endpoint, known) in endpoints.iter().zip(&mut known) {
            match lookup(endpoint, dns.family).await {
                Ok(found) if found.is_empty() => stats.update_empty.inc(),
                Ok(found) => *known = found,
                Err(error) => {
                    tracing::debug!(cluster = %plan.name(), name = ?endpoint.address, %error, "name not resolved");
                    failed = true;
                }
            }
        }
        if failed {
            stats.update_failure.inc();
        }
        cluster.update(hosts(&cluster, endpoints, &known, logical));
        if let Some(first) = first.take() {
            first();
        }
        failures = if failed { failures + 1 } else { 0 };
        tokio::time::sleep(pause(&dns, failures)).await;
    }
}

/// How long until the next lookup: with failures a jittered exponential back-off, where one is configured.
fn pause(dns: &DnsPlan, failures: u32) -> Duration {
    if let (Some((base, max)), 1..) = (dns.failure, failures) {
        let ceiling = base.saturating_mul(1 << (failures - 1).min(16)).min(max.max(base));
        return ceiling.mul_f64(0.5 + fastrand::f64() / 2.0).max(Duration::from_millis(1));
    }
    dns.refresh + dns.jitter.mul_f64(fastrand::f64())
}

async fn lookup(endpoint: &EndpointPlan, family: DnsFamily) -> std::io::Result<Vec<SocketAddr>> {
    let EndpointAddress::Name { host, port } = &endpoint.address else { return Ok(Vec::new()) };
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((&**host, *port))).await??;
    Ok(choose(found.collect(), family))
}

/// The addresses that the lookup family wants, without repetitions, in a stable order within each family.
pub(crate) fn choose(found: Vec<SocketAddr>, family: DnsFamily) -> Vec<SocketAddr> {
    let of = |v4: bool| {
        let mut addresses: Vec<SocketAddr> = found.iter().copied().filter(|address| address.is_ipv4() == v4).collect();
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        addresses
    };
    let or = |first: Vec<SocketAddr>, second: Vec<SocketAddr>| if first.is_empty() { second } else { first };
    match family {
        DnsFamily::V4Only => of(true),
        DnsFamily::V6Only => of(false),
        DnsFamily::Auto => or(of(false), of(true)),
        DnsFamily::V4Preferred => or(of(true), of(false)),
        DnsFamily::All => of(false).into_iter().chain(of(true)).collect(),
    }
}

fn hosts(
    cluster: &SharedCluster,
    endpoints: &[EndpointPlan],
    known: &[Vec<SocketAddr>],
    logical: bool,
) -> Vec<HostFacts> {
    let plan = cluster.plan();
    let mut facts = Vec::new();
    for (endpoint, addresses) in endpoints.iter().zip(known) {
        if let EndpointAddress::Fixed(address) = &endpoint.address {
            facts.push(plan.host(endpoint, address.clone()));
            continue;
        }
        if !logical {
            facts.extend(addresses.iter().map(|address| plan.host(endpoint, Address::Ip(*address))));
        } else if let Some((first, others)) = addresses.split_first() {
            let mut host = plan.host(endpoint, Address::Ip(*first));
            host.additional = others.iter().map(|address| Address::Ip(*address)).collect();
            facts.push(host);
        }
    }
    facts
}

#[cfg(test)]
mod tests;
