//! Names that requests bring along, and what they were found to mean (`DnsCacheConfig`). Shared by all workers.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_filter::BoxFuture;
use adit_filter::upstream::{Resolver, Unresolved};
use adit_stats::{Counter, Gauge, Scope};
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

struct Shared {
    options: CacheOptions,
    stats: Stats,
    known: Mutex<HashMap<Box<str>, Known>>,
    pending: AtomicUsize,
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
        Self(Arc::new(Shared { options, stats, known: Mutex::default(), pending: AtomicUsize::new(0) }))
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

    async fn ask(&self, name: Box<str>) -> Result<IpAddr, Unresolved> {
        if self.pending.fetch_add(1, Relaxed) >= self.options.max_pending {
            self.pending.fetch_sub(1, Relaxed);
            self.stats.pending_overflow.inc();
            return Err(Unresolved::PendingOverflow);
        }
        let _pending = Pending(&self.pending);
        self.stats.attempt.inc();
        let found = self.look_up(&name).await;
        let now = Instant::now();
        match found {
            Some(address) => {
                self.stats.success.inc();
                self.keep(name, address, now)
            }
            None => {
                self.stats.failure.inc();
                // A name that fails keeps its last address, as in Envoy.
                lock(&self.known).get(&name).map(|known| known.address).ok_or(Unresolved::Failed)
            }
        }
    }

    async fn look_up(&self, name: &str) -> Option<IpAddr> {
        let lookup = tokio::net::lookup_host((name, 0));
        let found = if self.options.timeout.is_zero() {
            lookup.await
        } else {
            let Ok(found) = tokio::time::timeout(self.options.timeout, lookup).await else {
                self.stats.timeout.inc();
                return None;
            };
            found
        };
        dns::choose(found.ok()?.collect(), self.options.family).first().map(SocketAddr::ip)
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

struct Pending<'a>(&'a AtomicUsize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use adit_stats::Store;

    use super::*;

    fn cache(options: CacheOptions) -> (DnsCache, Store) {
        let store = Store::new(1);
        let cache = DnsCache::new(options, &store.root());
        (cache, store)
    }

    const V4: CacheOptions = CacheOptions {
        family: DnsFamily::V4Only,
        refresh: Duration::from_secs(60),
        ttl: Duration::from_secs(300),
        timeout: Duration::from_secs(5),
        max_hosts: 1024,
        max_pending: 1024,
    };

    #[tokio::test]
    async fn addresses_need_no_lookup() {
        let (cache, _store) = cache(V4);
        for (host, address) in [("127.0.0.2", "127.0.0.2:53"), ("[::1]", "[::1]:53"), ("::1", "[::1]:53")] {
            assert_eq!(cache.resolve(host, 53).await, Ok(address.parse().unwrap()));
        }
        assert_eq!(cache.0.stats.attempt.value(), 0);
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once_until_it_is_old() {
        let (cache, _store) = cache(V4);
        for _ in 0..3 {
            assert_eq!(cache.resolve("LocalHost", 80).await, Ok("127.0.0.1:80".parse().unwrap()));
        }
        assert_eq!((cache.0.stats.attempt.value(), cache.0.stats.added.value()), (1, 1));
        let later = Instant::now() + Duration::from_secs(61);
        assert_eq!(cache.0.fresh("localhost", later), None);
    }

    #[tokio::test]
    async fn a_name_without_an_address_fails() {
        let (cache, _store) = cache(V4);
        assert_eq!(cache.resolve("no-such-name.invalid", 80).await, Err(Unresolved::Failed));
        assert_eq!(cache.resolve("", 80).await, Err(Unresolved::Failed));
        assert_eq!(cache.0.stats.hosts.value(), 0);
    }

    #[tokio::test]
    async fn names_and_questions_are_bounded() {
        let (cache, _store) = cache(CacheOptions { max_hosts: 2, ..V4 });
        let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
        let keep = |name: &str, at| cache.0.keep(name.into(), address, at);
        keep("a", now).unwrap();
        keep("b", now + Duration::from_secs(10)).unwrap();
        assert_eq!(keep("c", now + Duration::from_secs(11)), Err(Unresolved::CacheOverflow));
        // One that nobody used for so long makes room.
        keep("c", now + Duration::from_secs(301)).unwrap();
        assert_eq!((cache.0.stats.overflow.value(), cache.0.stats.removed.value()), (1, 1));
        let cache = self::cache(CacheOptions { max_pending: 0, ..V4 }).0;
        assert_eq!(cache.resolve("localhost", 80).await, Err(Unresolved::PendingOverflow));
        assert_eq!(cache.0.pending.load(Relaxed), 0);
    }
}
