//! Which origins speak HTTP/3: the alternate protocols cache of `auto_config` (RFC 7838).

use std::collections::HashMap;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_codec::{PendingResponse, RecvStream};
use adit_http::{ResponseHead, StreamError};
use http::HeaderMap;
use tokio::time::Instant;

use crate::cluster::lock;

/// How long an origin counts as broken after its first failure; each further one doubles that, up to a day.
const BROKEN: Duration = Duration::from_secs(300);
const MAX_BROKEN: Duration = Duration::from_secs(86_400);
/// RFC 7838 section 3.1: the age where `ma` is missing.
const DEFAULT_AGE: Duration = Duration::from_secs(86_400);
/// No age is longer, whatever a server says.
const MAX_AGE: Duration = Duration::from_secs(365 * 86_400);

/// The cache of one cluster, shared by its workers. Only an alternative at the same host and port is used, as in Envoy.
pub(crate) struct AlternateProtocols {
    max: usize,
    origins: Mutex<HashMap<Box<str>, Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    port: u16,
    /// `None` for one that the configuration names.
    expires: Option<Instant>,
    broken_until: Option<Instant>,
    failures: u32,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl AlternateProtocols {
    /// A cache of `max` origins that starts with those of the configuration.
    pub fn new(max: usize, prepopulated: impl IntoIterator<Item = (String, u16)>) -> Self {
        let cache = Self { max, origins: Mutex::default() };
        for (host, port) in prepopulated {
            cache.insert(&host, port, None, Instant::now());
        }
        cache
    }

    /// Whether HTTP/3 is to be tried.
    pub fn usable(&self, host: &str, port: u16, now: Instant) -> bool {
        self.with(host, port, |entry| !entry.is_over(now) && entry.broken_until.is_none_or(|until| until <= now))
            .unwrap_or(false)
    }

    /// HTTP/3 worked.
    pub fn works(&self, host: &str, port: u16) {
        self.with(host, port, |entry| {
            entry.broken_until = None;
            entry.failures = 0;
        });
    }

    /// HTTP/3 failed.
    pub fn failed(&self, host: &str, port: u16, now: Instant) {
        self.with(host, port, |entry| {
            let time = BROKEN.saturating_mul(1 << entry.failures.min(16)).min(MAX_BROKEN);
            entry.failures = entry.failures.saturating_add(1);
            entry.broken_until = Some(now + time);
        });
    }

    /// HTTP/3 is slow: not to be waited for again until it worked, or for so long.
    pub fn slow(&self, host: &str, port: u16, until: Instant) {
        self.with(host, port, |entry| {
            entry.broken_until = Some(entry.broken_until.map_or(until, |broken| broken.max(until)));
        });
    }

    /// Takes the `alt-svc` fields of a response. They replace what was known of the origin.
    pub fn learn(&self, host: &str, port: u16, headers: &HeaderMap, now: Instant) {
        let mut found = None;
        let mut said = false;
        for value in headers.get_all("alt-svc") {
            let Ok(text) = value.to_str() else { continue };
            said = true;
            if text.trim() == "clear" {
                found = None;
                break;
            }
            found = found.or_else(|| http3_at(text, host, port));
        }
        match found.filter(|age| !age.is_zero()) {
            Some(age) => self.insert(host, port, Some(now + age.min(MAX_AGE)), now),
            None if said => self.remove(host, port),
            None => {}
        }
    }

    fn with<T>(&self, host: &str, port: u16, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut origins = lock(&self.origins);
        origins.get_mut(host)?.iter_mut().find(|entry| entry.port == port).map(change)
    }

    fn insert(&self, host: &str, port: u16, expires: Option<Instant>, now: Instant) {
        let known = self.with(host, port, |entry| {
            if entry.expires.is_some() {
                entry.expires = expires;
            }
        });
        if known.is_some() {
            return;
        }
        let mut origins = lock(&self.origins);
        let count = |origins: &HashMap<Box<str>, Vec<Entry>>| origins.values().map(Vec::len).sum::<usize>();
        if count(&origins) >= self.max {
            origins.retain(|_, entries| {
                entries.retain(|entry| !entry.is_over(now));
                !entries.is_empty()
            });
        }
        if count(&origins) >= self.max {
            // The one that ends first goes; those of the configuration stay.
            let all = origins.iter().flat_map(|(host, entries)| entries.iter().map(move |entry| (host, entry)));
            let first = all.filter_map(|(host, entry)| Some((entry.expires?, host.clone(), entry.port))).min();
            let Some((_, host, port)) = first else { return };
            drop_entry(&mut origins, &host, port);
        }
        let entry = Entry { port, expires, broken_until: None, failures: 0 };
        origins.entry(host.into()).or_default().push(entry);
    }

    fn remove(&self, host: &str, port: u16) {
        let configured = self.with(host, port, |entry| entry.expires.is_none());
        if configured == Some(false) {
            drop_entry(&mut lock(&self.origins), host, port);
        }
    }
}

fn drop_entry(origins: &mut HashMap<Box<str>, Vec<Entry>>, host: &str, port: u16) {
    if let Some(entries) = origins.get_mut(host) {
        entries.retain(|entry| entry.port != port);
        if entries.is_empty() {
            origins.remove(host);
        }
    }
}

/// For how long a value of `alt-svc` offers HTTP/3 at this very host and port. Nothing of it may hold a comma or a semicolon
/// within quotes but what is no alternative of ours.
fn http3_at(value: &str, host: &str, port: u16) -> Option<Duration> {
    value.split(',').find_map(|alternative| {
        let mut parts = alternative.split(';').map(str::trim);
        let (protocol, authority) = parts.next()?.split_once('=')?;
        let authority = authority.strip_prefix('"')?.strip_suffix('"')?;
        let (alternative_host, alternative_port) = authority.rsplit_once(':')?;
        let same = (alternative_host.is_empty() || alternative_host.eq_ignore_ascii_case(host))
            && alternative_port.parse() == Ok(port);
        if protocol != "h3" || !same {
            return None;
        }
        let age = parts.find_map(|part| part.strip_prefix("ma="));
        let seconds = age.map(|age| age.trim_matches('"').parse().ok());
        Some(seconds.map_or(DEFAULT_AGE, |seconds| Duration::from_secs(seconds.unwrap_or(0))))
    })
}

/// A response of which `alt-svc` is learned.
pub(crate) struct Learning {
    pub inner: Box<dyn PendingResponse>,
    pub plan: std::sync::Arc<crate::plan::ClusterPlan>,
    pub host: Box<str>,
    pub port: u16,
}

impl PendingResponse for Learning {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        let head = ready!(self.inner.poll_head(cx))?;
        if let Some(alternate) = &self.plan.http.alternate {
            alternate.learn(&self.host, self.port, &head.headers, Instant::now());
        }
        Poll::Ready(Ok(head))
    }

    fn into_recv(self: Box<Self>) -> Box<dyn RecvStream> {
        self.inner.into_recv()
    }
}

#[cfg(test)]
mod tests;
