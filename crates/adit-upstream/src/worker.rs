//! One worker's view of one cluster: it chooses hosts and owns the pools.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use adit_filter::upstream::{
    Cluster, ClusterSettings, Clusters, ConnectFailure, FailureKind, HttpUpstream, Need, Priority, Report, TcpUpstream,
    TlsNames, UdpUpstream,
};
use adit_filter::{BoxFuture, Soon, Spawn};
use adit_http::RequestHead;
use adit_io::Io;

use crate::cluster::{Core, SharedCluster, lock};
use crate::codec::CodecFactory;
use crate::connect::{Failed, InternalConnector, Joined, Purpose, establish};
use crate::host::HostState;
use crate::lb::{HostSet, LbState};
use crate::manager::ClusterSet;
use crate::original_dst;
use crate::plan::Discovery;
use crate::pool::{HostPools, Kicks, PoolSet};
use crate::quic::QuicEndpoints;
use crate::transport::TransportContext;

/// The server name to ask for, where a filter set one.
const SERVER_NAME_KEY: &str = "envoy.network.upstream_server_name";

/// What a worker lends to its clusters.
pub struct WorkerDeps {
    /// Runs connects and the drivers of multiplexed connections.
    pub spawn: Arc<dyn Spawn>,
    /// Connects to internal listeners.
    pub internal: Arc<dyn InternalConnector>,
    /// Makes codecs.
    pub codecs: Arc<dyn CodecFactory>,
}

/// One cluster on one worker.
pub struct WorkerCluster {
    pub(crate) shared: Arc<SharedCluster>,
    pub(crate) core: Arc<Core>,
    pub(crate) deps: Arc<WorkerDeps>,
    pub(crate) quic: Arc<QuicEndpoints>,
    pub(crate) state: Mutex<State>,
    pub(crate) kicks: Arc<Kicks>,
    pub(crate) this: Weak<WorkerCluster>,
    /// The worker's clusters, this one among them.
    pub(crate) peers: OnceLock<Weak<ClusterSet>>,
}

/// What changes; only this worker's thread locks it, save for guards that end elsewhere.
pub(crate) struct State {
    version: u64,
    set: Arc<HostSet>,
    lb: LbState,
    pub pools: PoolSet,
}

impl WorkerCluster {
    /// A cluster with empty pools.
    pub fn new(shared: Arc<SharedCluster>, deps: Arc<WorkerDeps>, quic: Arc<QuicEndpoints>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            core: shared.core().clone(),
            state: Mutex::new(State {
                version: shared.version(),
                set: shared.set(),
                lb: LbState::default(),
                pools: PoolSet { hosts: HashMap::default(), conns: slab::Slab::new(), running: false, serial: 0 },
            }),
            shared,
            deps,
            quic,
            kicks: Arc::new(Kicks::new(this.clone())),
            this: this.clone(),
            peers: OnceLock::new(),
        })
    }

    /// Chooses a host; the failure says that there is none.
    pub(crate) fn pick(&self, need: &Need<'_>) -> Result<Arc<HostState>, ConnectFailure> {
        self.pick_of(&mut lock(&self.state), need)
    }

    /// The same, for who has locked the state.
    pub(crate) fn pick_of(&self, state: &mut State, need: &Need<'_>) -> Result<Arc<HostState>, ConnectFailure> {
        let picked = match &self.core.plan.discovery {
            Discovery::OriginalDst(plan) => original_dst::pick(&self.shared, plan, need),
            _ => self.balance(state, need),
        };
        picked.ok_or_else(|| {
            self.core.stats.traffic.upstream_cx_none_healthy.inc();
            ConnectFailure { kind: FailureKind::NoHealthyHost, reason: Cow::Borrowed(""), host: None, refusal: None }
        })
    }

    fn balance(&self, state: &mut State, need: &Need<'_>) -> Option<Arc<HostState>> {
        self.refresh(state);
        let State { set, lb, .. } = state;
        let plan = &self.core.plan.lb;
        let mut choice = lb.choose(plan, set, need.hash)?;
        let mut hash = need.hash;
        for _ in 0..need.reselect {
            if !need.tried.contains(choice.host.address()) {
                break;
            }
            // A hash would give the same host again.
            hash = hash.map(|hash| hash.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            choice = lb.choose(plan, set, hash)?;
        }
        if choice.panic {
            self.core.stats.membership.lb_healthy_panic.inc();
        }
        Some(choice.host)
    }

    /// Takes over the newest host set, and lets go of pools whose hosts are gone.
    fn refresh(&self, state: &mut State) {
        let version = self.shared.version();
        if version == state.version {
            return;
        }
        state.version = version;
        state.set = self.shared.set();
        state.lb.reset();
        state.pools.prune();
    }

    /// What the transport socket may use; `None` where the stream is used as it is. In a box: it is large, and most streams
    /// have none.
    pub(crate) fn context(
        &self,
        host: &Arc<HostState>,
        need: &Need<'_>,
        alpn: &'static [&'static str],
    ) -> Option<Box<TransportContext>> {
        let factory = self.core.plan.transport(host.facts.transport)?;
        if factory.is_raw() {
            return None;
        }
        let TlsNames { server_name, certificate } = match need.tls_names {
            Some(names) => names.clone(),
            None => need.request.map(|request| self.names(request)).unwrap_or_default(),
        };
        let of_state = need.state.text(SERVER_NAME_KEY).filter(|name| !name.is_empty()).map(Box::from);
        Some(Box::new(TransportContext {
            host: host.clone(),
            cluster_metadata: self.core.plan.settings.metadata.clone(),
            clusters: self.peers.get().and_then(Weak::upgrade).map(|peers| peers as Arc<dyn Clusters>),
            downstream: need.downstream.cloned(),
            state: need.state.clone(),
            metadata: need.metadata.clone(),
            auto_sni: of_state.or(server_name),
            auto_san_validation: self.core.plan.http.auto_san_validation.is_some(),
            verify_name: certificate,
            alpn,
        }))
    }

    fn names(&self, request: &RequestHead) -> TlsNames {
        let http = &self.core.plan.http;
        TlsNames {
            server_name: http.auto_sni.as_ref().and_then(|header| sni(request, header)),
            certificate: http.auto_san_validation.as_ref().map(|header| asked_for(request, header)),
        }
    }

    async fn connect_tcp(&self, need: &Need<'_>) -> Result<TcpUpstream, ConnectFailure> {
        let host = self.pick(need)?;
        let fail = |failed: Failed| failure(&failed, Some(&host));
        let ticket = self.tcp_ticket(&host, need.priority).await.map_err(fail)?;
        let ctx = self.context(&host, need, &[]);
        let purpose = Purpose::new(&self.core, need.downstream, need.speaks_first);
        let result = establish(&self.core, &host, &*self.deps.internal, ctx.as_deref(), purpose).await;
        match result {
            Ok(io) => {
                if let Some(joined) = Joined::of(&io, purpose) {
                    self.deps.spawn.spawn(Box::pin(joined.undo()));
                }
                Ok(self.tcp_upstream(io, host, ticket))
            }
            Err(failed) => {
                ticket.fail(&failed);
                Err(failure(&failed, Some(&host)))
            }
        }
    }

    fn tcp_upstream(&self, io: Io, host: Arc<HostState>, ticket: crate::pool::TcpTicket) -> TcpUpstream {
        TcpUpstream { io, guard: Box::new(ticket.connected()), host }
    }
}

impl Drop for WorkerCluster {
    fn drop(&mut self) {
        self.kicks.close();
    }
}

impl Cluster for WorkerCluster {
    fn settings(&self) -> &ClusterSettings {
        &self.core.plan.settings
    }

    fn tcp<'a>(&'a self, need: &'a Need<'a>) -> BoxFuture<'a, Result<TcpUpstream, ConnectFailure>> {
        Box::pin(self.connect_tcp(need))
    }

    fn tcp_overflows(&self, priority: Priority) -> bool {
        let connections = &self.core.breaker(priority).connections;
        let full = connections.used() >= connections.max();
        if full {
            self.core.stats.traffic.upstream_cx_overflow.inc();
        }
        full
    }

    fn http<'a>(&'a self, need: &Need<'_>) -> Soon<'a, Result<HttpUpstream, ConnectFailure>> {
        self.acquire(need)
    }

    fn udp(&self, need: &Need<'_>) -> Result<UdpUpstream, ConnectFailure> {
        self.udp_upstream(need)
    }

    fn tls_names(&self, request: &RequestHead) -> Option<Box<TlsNames>> {
        let http = &self.core.plan.http;
        let any = http.auto_sni.is_some() || http.auto_san_validation.is_some();
        any.then(|| Box::new(self.names(request)))
    }

    fn retry_permit(&self, priority: Priority) -> Option<Box<dyn Send>> {
        if !self.core.breaker(priority).try_take_retry() {
            self.core.stats.traffic.upstream_rq_retry_overflow.inc();
            return None;
        }
        Some(Box::new(RetryPermit { core: self.core.clone(), priority }))
    }

    fn report(&self, report: Report) {
        self.core.report(report);
    }
}

struct RetryPermit {
    core: Arc<Core>,
    priority: Priority,
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.core.breaker(self.priority).retries.put();
    }
}

pub(crate) fn failure(failed: &Failed, host: Option<&Arc<HostState>>) -> ConnectFailure {
    ConnectFailure {
        kind: failed.0.kind,
        reason: Cow::Owned(failed.0.reason.clone()),
        host: host.map(|host| host.clone() as Arc<dyn adit_filter::upstream::Host>),
        refusal: failed.0.refusal,
    }
}

/// The server name that a request's field asks for, without its port.
fn sni(head: &RequestHead, header: &str) -> Option<Box<str>> {
    let value = value_of(head, header)?;
    let text = std::str::from_utf8(&value).ok()?;
    let host = text.parse::<http::uri::Authority>().ok()?;
    // RFC 6066 section 3: an address is no server name.
    let name = host.host();
    let address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
    (!address && !name.is_empty()).then(|| name.into())
}

/// The host that a request's field names, without port and square brackets. What is no host stays as it is: no certificate is
/// for it.
fn asked_for(head: &RequestHead, header: &str) -> Box<str> {
    let value = value_of(head, header).unwrap_or_default();
    let text = String::from_utf8_lossy(&value);
    let host = text.parse::<http::uri::Authority>();
    let host = host.as_ref().map_or(&*text, |authority| authority.host());
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).into()
}

/// As in Envoy: the authority where the field of `override_auto_sni_header` is absent or empty.
fn value_of<'a>(head: &'a RequestHead, header: &str) -> Option<Cow<'a, [u8]>> {
    head.field(header).filter(|value| !value.is_empty()).or_else(|| head.field(":authority"))
}

impl HostState {
    /// Whether nothing is using it.
    pub(crate) fn unused(&self) -> bool {
        self.stats.cx_active.load(Relaxed) == 0 && self.stats.rq_active.load(Relaxed) == 0
    }
}

pub(crate) type Pools = HashMap<u64, HostPools, std::hash::BuildHasherDefault<IdHasher>>;

/// Host ids are small and unique: they are their own hash, spread.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
