//! Scopes: where a metric's name and labels come from.

use std::borrow::Cow;
use std::sync::Arc;

use crate::store::{Own, Store};
use crate::{Counter, Gauge, Histogram, TextReadout, tag};

/// A prefix and its tags. A clone is cheap.
///
/// A metric has two names: the one of `/stats` (`cluster.a.upstream_cx_total`) and the tag-extracted one of
/// Prometheus (`cluster.upstream_cx_total` with `envoy_cluster_name="a"`). A scope carries both, so nothing is ever
/// guessed from a name by patterns, and a name that contains dots keeps its label.
#[derive(Clone, Debug)]
pub struct Scope {
    store: Store,
    data: Arc<ScopeData>,
}

#[derive(Debug, Default)]
pub(crate) struct ScopeData {
    /// Prefix of `/stats`, without a dot at its end; empty at the root.
    pub(crate) full: String,
    /// Prefix of the tag-extracted name.
    pub(crate) extracted: String,
    /// The innermost scope's tags come first, as Envoy prints them.
    pub(crate) tags: Vec<(String, String)>,
}

impl Scope {
    pub(crate) fn root(store: Store) -> Self {
        Self { store, data: Arc::default() }
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The prefix of the names in `/stats`, without a dot at its end.
    pub fn prefix(&self) -> &str {
        &self.data.full
    }

    /// A scope below this one that adds `prefix` to both names.
    pub fn scope(&self, prefix: &str) -> Self {
        self.tagged(prefix, prefix, &[])
    }

    /// A scope below this one: `prefix` continues the name of `/stats`, `extracted` (which may be empty) the
    /// tag-extracted one, and `tags` are added as labels.
    pub fn tagged(&self, prefix: &str, extracted: &str, tags: &[(&str, &str)]) -> Self {
        let own = tags.iter().map(|(name, value)| ((*name).to_owned(), sanitize(value).into_owned()));
        Self {
            store: self.store.clone(),
            data: Arc::new(ScopeData {
                full: join(&self.data.full, &sanitize(prefix)),
                extracted: join(&self.data.extracted, &sanitize(extracted)),
                tags: own.chain(self.data.tags.iter().cloned()).collect(),
            }),
        }
    }

    /// `listener.<address>.`; the address as Envoy writes it in stats, `127.0.0.1_10000`, or the `stat_prefix`.
    pub fn listener(&self, address: &str) -> Self {
        self.keyed("listener", address, tag::LISTENER_ADDRESS)
    }

    /// `http.<stat_prefix>.`, also below a listener's scope.
    pub fn http(&self, stat_prefix: &str) -> Self {
        self.keyed("http", stat_prefix, tag::HTTP_CONN_MANAGER_PREFIX)
    }

    /// `cluster.<name>.` (`alt_stat_name` where it is set).
    pub fn cluster(&self, name: &str) -> Self {
        self.keyed("cluster", name, tag::CLUSTER_NAME)
    }

    /// `tcp.<stat_prefix>.`
    pub fn tcp(&self, stat_prefix: &str) -> Self {
        self.keyed("tcp", stat_prefix, tag::TCP_PREFIX)
    }

    /// `udp.<stat_prefix>.`
    pub fn udp(&self, stat_prefix: &str) -> Self {
        self.keyed("udp", stat_prefix, tag::UDP_PREFIX)
    }

    /// `vhost.<name>.`
    pub fn vhost(&self, name: &str) -> Self {
        self.keyed("vhost", name, tag::VIRTUAL_HOST)
    }

    /// `vcluster.<name>.`, below a virtual host's scope.
    pub fn vcluster(&self, name: &str) -> Self {
        self.keyed("vcluster", name, tag::VIRTUAL_CLUSTER)
    }

    /// `connection_limit.<stat_prefix>.`
    pub fn connection_limit(&self, stat_prefix: &str) -> Self {
        self.keyed("connection_limit", stat_prefix, tag::CONNECTION_LIMIT_PREFIX)
    }

    /// `<stat_prefix>.http_local_rate_limit.`
    pub fn http_local_rate_limit(&self, stat_prefix: &str) -> Self {
        let prefix = format!("{stat_prefix}.http_local_rate_limit");
        self.tagged(&prefix, "http_local_rate_limit", &[(tag::LOCAL_HTTP_RATELIMIT_PREFIX, stat_prefix)])
    }

    /// `worker_<index>.`, below a listener's scope or `server.`.
    pub fn worker(&self, index: usize) -> Self {
        self.tagged(&format!("worker_{index}"), "worker", &[(tag::WORKER_ID, &index.to_string())])
    }

    fn keyed(&self, kind: &str, key: &str, tag: &str) -> Self {
        self.tagged(&format!("{kind}.{key}"), kind, &[(tag, key)])
    }

    /// The counter `name` of this scope: made at 0, or the one that exists.
    pub fn counter(&self, name: &str) -> Counter {
        self.store.counter(&self.data, name, None)
    }

    /// A counter whose own name holds a tag: `upstream_rq_200` is `upstream_rq` with a response code.
    pub fn counter_tagged(&self, name: &str, extracted: &str, tags: &[(&str, &str)]) -> Counter {
        self.store.counter(&self.data, name, Some(Own::new(extracted, tags)))
    }

    /// The gauge `name` of this scope: made at 0, or the one that exists.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.store.gauge(&self.data, name, None)
    }

    /// A gauge whose own name holds a tag.
    pub fn gauge_tagged(&self, name: &str, extracted: &str, tags: &[(&str, &str)]) -> Gauge {
        self.store.gauge(&self.data, name, Some(Own::new(extracted, tags)))
    }

    /// The histogram `name` of this scope.
    pub fn histogram(&self, name: &str) -> Histogram {
        self.store.histogram(&self.data, name)
    }

    /// The text readout `name` of this scope.
    pub fn text_readout(&self, name: &str) -> TextReadout {
        self.store.text_readout(&self.data, name)
    }
}

/// Joins two parts of a name; either may be empty.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}

/// Envoy's rule for stat names: no dot at either end, `://`, `:/`, `:` and NUL become `_`.
pub(crate) fn sanitize(name: &str) -> Cow<'_, str> {
    let name = name.trim_matches('.');
    if name.contains([':', '\0', '\n', '\r']) {
        Cow::Owned(name.replace("://", "_").replace(":/", "_").replace([':', '\0', '\n', '\r'], "_"))
    } else {
        Cow::Borrowed(name)
    }
}
