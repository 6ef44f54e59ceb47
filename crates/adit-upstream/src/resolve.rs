//! Names that requests bring along, and what they were found to mean (`DnsCacheConfig`). Shared by all workers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use adit_filter::BoxFuture;
use adit_filter::upstream::{Resolver, Unresolved};
use adit_stats::{Counter, Gauge, Scope};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::lock;
use crate::dns;
use crate::plan::DnsFamily;

/// `DnsCacheConfig`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheOptions {
    pub(crate) family: DnsFamily,
    /// `dns_refresh_rate`: what was found is asked for again after this long, when it is next used.
    pub(crate) refresh: Duration,
    /// `host_ttl`: a name that nobody used for this long makes room for others.
    pub(crate) ttl: Duration,
    /// `dns_query_timeout`; zero is never.
    pub(crate) timeout: Duration,
    pub(crate) max_hosts: usize,
    /// `dns_cache_circuit_breaker.max_pending_requests`.
    pub(crate) max_pending: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            family: DnsFamily::Auto,
            refresh: Duration::from_secs(60),
            ttl: Duration::from_secs(300),
            timeout: Duration::from_secs(5),
            max_hosts: 1024,
            max_pending: 1024,
        }
    }
}

/// Names and their addresses.
pub(crate) struct DnsCache(Arc<Shared>);

type Find = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Shared {
    options: CacheOptions,
    stats: Stats,
    known: Mutex<HashMap<Box<str>, Known>>,
    /// The look-ups under way: one for each name, at most `max_pending`.
    asking: Mutex<HashMap<Box<str>, Asking>>,
    find: Box<Find>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    address: IpAddr,
    found: Instant,
    used: Instant,
}

struct Stats {
    attempt: Counter,
    success: Counter,
    failure: Counter,
    timeout: Counter,
    changed: Counter,
    added: Counter,
    removed: Counter,
    overflow: Counter,
    pending_overflow: Counter,
    hosts: Gauge,
}

impl DnsCache {
    pub(crate) fn new(options: CacheOptions, scope: &Scope) -> Self {
        Self::with(options, scope, Box::new(find))
    }

    fn with(options: CacheOptions, scope: &Scope, find: Box<Find>) -> Self {
        let stats = Stats {
            attempt: scope.counter("dns_query_attempt"),
            success: scope.counter("dns_query_success"),
            failure: scope.counter("dns_query_failure"),
            timeout: scope.counter("dns_query_timeout"),
            changed: scope.counter("host_address_changed"),
            added: scope.counter("host_added"),
            removed: scope.counter("host_removed"),
            overflow: scope.counter("host_overflow"),
            pending_overflow: scope.counter("dns_rq_pending_overflow"),
            hosts: scope.gauge("num_hosts"),
        };
        Self(Arc::new(Shared { options, stats, known: Mutex::default(), asking: Mutex::default(), find }))
    }
}

impl fmt::Debug for DnsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsCache").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Resolver for DnsCache {
    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, Result<SocketAddr, Unresolved>> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Box::pin(std::future::ready(Ok(SocketAddr::new(ip, port))));
        }
        let name: Box<str> = host.to_ascii_lowercase().into();
        match self.0.fresh(&name, Instant::now()) {
            Some(ip) => Box::pin(std::future::ready(Ok(SocketAddr::new(ip, port)))),
            None => {
                let shared = self.0.clone();
                Box::pin(async move { Ok(SocketAddr::new(shared.ask(name).await?, port)) })
            }
        }
    }
}

impl Shared {
    /// What is known and not yet to be asked for again.
    fn fresh(&self, name: &str, now: Instant) -> Option<IpAddr> {
        let mut known = lock(&self.known);
        let found = known.get_mut(name)?;
        found.used = now;
        (now.saturating_duration_since(found.found) < self.options.refresh).then_some(found.address)
    }

    /// The last address of a name, however old.
    fn last(&self, name: &str) -> Option<IpAddr> {
        lock(&self.known).get(name).map(|known| known.address)
    }

    async fn ask(self: Arc<Self>, name: Box<str>) -> Result<IpAddr, Unresolved> {
        let Some((mut asking, first)) = self.question(&name) else {
            self.stats.pending_overflow.inc();
            return self.last(&name).ok_or(Unresolved::PendingOverflow);
        };
        if !first && let Some(address) = self.last(&name) {
            return Ok(address);
        }
        let timeout = self.options.timeout;
        let deadline = if timeout.is_zero() { None } else { asking.since.checked_add(timeout) };
        let answer = asking.answer.wait_for(Option::is_some);
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => {
                let Ok(answer) = tokio::time::timeout_at(deadline, answer).await else {
                    if !asking.late.swap(true, Relaxed) {
                        self.stats.timeout.inc();
                        self.stats.failure.inc();
                    }
                    return self.last(&name).ok_or(Unresolved::Failed);
                };
                answer
            }
        };
        // Without an answer the runtime of the look-up has ended.
        answer.ok().and_then(|answer| *answer).unwrap_or(Err(Unresolved::Failed))
    }

    /// The look-up of a name that is under way, or a new one (`true`); `None` where there are too many.
    fn question(self: &Arc<Self>, name: &str) -> Option<(Asking, bool)> {
        let mut all = lock(&self.asking);
        if let Some(asking) = all.get(name) {
            return Some((asking.clone(), false));
        }
        if all.len() >= self.options.max_pending {
            return None;
        }
        let (sender, answer) = watch::channel(None);
        let asking = Asking { answer, since: Instant::now(), late: Arc::default() };
        all.insert(name.into(), asking.clone());
        drop(all);
        self.stats.attempt.inc();
        let question = Question { shared: self.clone(), name: name.into(), sender, late: asking.late.clone() };
        // Nothing can stop getaddrinfo: it keeps its place until it returns, even if nobody waits any more.
        tokio::task::spawn_blocking(move || question.answer());
        Some((asking, true))
    }

    fn keep(&self, name: Box<str>, address: IpAddr, now: Instant) -> Result<IpAddr, Unresolved> {
        let mut known = lock(&self.known);
        if let Some(before) = known.get_mut(&name) {
            if before.address != address {
                self.stats.changed.inc();
            }
            *before = Known { address, found: now, used: now };
            return Ok(address);
        }
        if known.len() >= self.options.max_hosts {
            let before = known.len();
            known.retain(|_, known| now.saturating_duration_since(known.used) < self.options.ttl);
            let removed = before - known.len();
            self.stats.removed.add(removed as u64);
            self.stats.hosts.set(known.len() as u64);
            if removed == 0 {
                self.stats.overflow.inc();
                return Err(Unresolved::CacheOverflow);
            }
        }
        known.insert(name, Known { address, found: now, used: now });
        self.stats.added.inc();
        self.stats.hosts.set(known.len() as u64);
        Ok(address)
    }
}

/// A look-up under way, as those see it who wait for it.
#[derive(Clone)]
struct Asking {
    answer: watch::Receiver<Option<Result<IpAddr, Unresolved>>>,
    since: Instant,
    /// Counted as one that took too long.
    late: Arc<AtomicBool>,
}

/// A look-up under way, as the thread sees it that does it. Dropped, it makes room for another.
struct Question {
    shared: Arc<Shared>,
    name: Box<str>,
    sender: watch::Sender<Option<Result<IpAddr, Unresolved>>>,
    late: Arc<AtomicBool>,
}

impl Question {
    fn answer(self) {
        let shared = &self.shared;
        let found = (shared.find)(&self.name).unwrap_or_default();
        let found = dns::choose(found, shared.options.family).first().map(SocketAddr::ip);
        if !self.late.swap(true, Relaxed) {
            let counter = if found.is_some() { &shared.stats.success } else { &shared.stats.failure };
            counter.inc();
        }
        let answer = match found {
            Some(address) => shared.keep(self.name.clone(), address, Instant::now()),
            // A name that fails keeps its last address, as in Envoy.
            None => shared.last(&self.name).ok_or(Unresolved::Failed),
        };
        self.sender.send_replace(Some(answer));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        lock(&self.shared.asking).remove(&self.name);
    }
}

/// Every address of a name; blocks.
fn find(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests;
