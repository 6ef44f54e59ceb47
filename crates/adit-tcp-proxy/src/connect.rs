//! From a client that waits to an upstream that accepted: attempts, pauses, and what is known when there are no more.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use adit_codec::{Meter, RecvStream, SendStream};
use adit_filter::upstream::{
    Cluster, ConnectFailure, FailureKind, Host, HttpUpstream, Need, Priority, Report, TcpUpstream,
};
use adit_filter::{ResponseFlag, StreamInfo, WorkerEnv};
use adit_io::{Address, ConnInfo, FilterValue, Io, RefusalSlot};
use adit_upgrade::{Action, Actions, Answer, Ask, Exchange, Input, Permit, Plan, Withheld};
use http::Version;
use tokio::time::Instant;

use crate::TcpProxy;
use crate::config::TunnelPlan;
use crate::session::Upstream;
use crate::tunnel::{self, Answered, Refused};

/// The address that replaces the choice of a host, where a filter set one.
const ORIGINAL_DST_KEY: &str = "envoy.network.transport_socket.original_dst_address";

/// Envoy's `UpstreamFailureReason`: the number behind `tcp_initializion_failure:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Every attempt failed.
    Connect = 0,
    NoHealthyHost = 1,
    ResourceLimit = 2,
    NoCluster = 3,
}

/// An upstream that accepted.
pub(crate) struct Established {
    pub(crate) stream: UpStream,
    pub(crate) upstream: Upstream,
    pub(crate) guard: Box<dyn Send>,
    pub(crate) buffer_limit: usize,
}

pub(crate) enum UpStream {
    Plain(Io),
    Tunnel(Box<dyn SendStream>, Box<dyn RecvStream>),
}

/// Tries until an upstream accepts or no attempt is left.
pub(crate) struct Connecting<'a> {
    proxy: &'a TcpProxy,
    worker: &'a WorkerEnv,
    info: &'a mut StreamInfo,
    tunnel: Option<&'a TunnelPlan>,
    tried: Vec<Address>,
    cluster: Option<Arc<dyn Cluster>>,
    failure: Failure,
    /// The status of the last answer that refused.
    pub(crate) refused: Option<u16>,
    /// The hop limit of internal listeners was reached.
    pub(crate) looped: bool,
    /// Bytes of the client waited for the upstream when this began.
    speaks_first: bool,
}

/// What the exchange has of an upstream.
enum Stage {
    Nothing,
    Plain(Withheld<TcpUpstream>),
    Pooled(HttpUpstream),
    Answered(HttpParts, Withheld<Box<dyn SendStream>>, Box<dyn RecvStream>),
}

/// An HTTP upstream whose stream was opened.
struct HttpParts {
    host: Arc<dyn Host>,
    conn: Arc<ConnInfo>,
    version: Version,
    guard: Box<dyn Send>,
    meter: Option<Arc<Meter>>,
}

impl<'a> Connecting<'a> {
    pub(crate) fn new(
        proxy: &'a TcpProxy,
        worker: &'a WorkerEnv,
        info: &'a mut StreamInfo,
        speaks_first: bool,
    ) -> Self {
        let tunnel = proxy.tunnel_for(info);
        Self {
            proxy,
            worker,
            info,
            tunnel,
            tried: Vec::new(),
            cluster: None,
            failure: Failure::Connect,
            refused: None,
            looped: false,
            speaks_first,
        }
    }

    /// Drives the exchange until the upstream accepted. Cancelled by being dropped: what there is of the upstream is reset.
    pub(crate) async fn run(&mut self) -> Result<Established, Failure> {
        let mut exchange = Exchange::new();
        let mut actions = Actions::default();
        let mut stage = Stage::Nothing;
        let ask = self.tunnel.map_or(Ask::Connect, TunnelPlan::ask);
        exchange.handle(Instant::now().into_std(), Input::Request(ask), &mut actions);
        loop {
            let Some(action) = actions.pop() else {
                pause_until(exchange.deadline().map(Instant::from_std)).await;
                exchange.handle(Instant::now().into_std(), Input::Tick, &mut actions);
                continue;
            };
            let input = match action {
                // Each attempt chooses its cluster anew.
                Action::Route => Input::Routed(Plan {
                    terminate: self.tunnel.is_none(),
                    response_timeout: None,
                    per_try_timeout: None,
                }),
                Action::Connect => match self.connect(exchange.attempts()).await {
                    Ok(connected) => {
                        stage = connected;
                        Input::Connected
                    }
                    Err(again) => Input::AttemptFailed { again },
                },
                // In a box, as most connections have no request to send.
                Action::SendRequest => match Box::pin(self.request(&mut stage, exchange.attempts())).await {
                    Ok(answer) => Input::Answer(answer),
                    Err(again) => Input::AttemptFailed { again },
                },
                Action::Accept(permit) => match self.accepted(stage, permit, exchange.attempts()) {
                    Some(established) => return Ok(established),
                    None => return Err(Failure::Connect),
                },
                Action::DropUpstream => {
                    stage = Stage::Nothing;
                    continue;
                }
                Action::Refuse(_) | Action::Finish => return Err(self.failure),
                Action::Inform | Action::TryExpired => continue,
            };
            exchange.handle(Instant::now().into_std(), input, &mut actions);
        }
    }

    /// One attempt to connect. An error says when the next one is due.
    async fn connect(&mut self, attempt: u32) -> Result<Stage, Option<Duration>> {
        let name = self.proxy.cluster(self.info);
        let upstream = self.info.upstream_mut();
        upstream.attempts = attempt;
        upstream.cluster = Some(name.clone());
        let Some(cluster) = self.worker.clusters.get(&name) else {
            self.proxy.stats.downstream_cx_no_route.inc();
            return Err(self.give_up(Failure::NoCluster, ResponseFlag::NoClusterFound));
        };
        self.cluster = Some(cluster.clone());
        // A client that waited for another's tunnel to end would wait in vain, as one that is its own upstream does; for a
        // tunnel over HTTP the pool says so, since a stream may need no new connection.
        if self.tunnel.is_none() && cluster.tcp_overflows(Priority::Default) {
            let kind = FailureKind::Overflow;
            let failure = ConnectFailure { kind, reason: "".into(), host: None, refusal: None };
            return Err(self.connect_failed(failure, attempt));
        }
        let need = Need {
            priority: Priority::Default,
            hash: self.proxy.hash(self.info),
            metadata_match: None,
            tried: &self.tried,
            reselect: 0,
            request: None,
            tls_names: None,
            downstream: Some(&self.info.conn),
            state: &self.info.state,
            metadata: &self.info.metadata,
            extended_connect: false,
            address: original_destination(self.info),
            wait: false,
            speaks_first: self.speaks_first,
        };
        let connected = match self.tunnel {
            None => cluster.tcp(&need).await.map(|upstream| Stage::Plain(Withheld::new(upstream))),
            Some(_) => cluster.http(&need).await.map(Stage::Pooled),
        };
        connected.map_err(|failure| self.connect_failed(failure, attempt))
    }

    fn connect_failed(&mut self, failure: ConnectFailure, attempt: u32) -> Option<Duration> {
        let ConnectFailure { kind, reason, host, refusal } = failure;
        self.refused = refusal.map(|status| status.as_u16());
        self.note_host(host.as_ref());
        if !reason.is_empty() {
            self.info.upstream_mut().transport_failure = Some(reason);
        }
        match kind {
            FailureKind::NoHealthyHost => self.give_up(Failure::NoHealthyHost, kind.flag()),
            FailureKind::Overflow => self.give_up(Failure::ResourceLimit, kind.flag()),
            FailureKind::Loop => {
                // Another attempt would end likewise, and those of each hop would multiply.
                self.looped = true;
                self.give_up(Failure::Connect, kind.flag())
            }
            _ => self.attempt_failed(attempt),
        }
    }

    /// Sends the request for a tunnel over the connection at hand and waits for its acceptance.
    async fn request(&mut self, stage: &mut Stage, attempt: u32) -> Result<Answer, Option<Duration>> {
        let (Stage::Pooled(upstream), Some(plan)) = (std::mem::replace(stage, Stage::Nothing), self.tunnel) else {
            return Err(None);
        };
        let HttpUpstream { mut lease, host, version, conn } = upstream;
        self.note_host(Some(&host));
        let secure = self.cluster.as_ref().is_some_and(|cluster| cluster.settings().secure);
        let Some(head) = plan.head(self.info, secure) else {
            self.info.upstream_mut().transport_failure = Some(Cow::Borrowed("invalid_tunnel_hostname"));
            return Err(self.attempt_failed(attempt));
        };
        let answered = match lease.open(&head, false) {
            Ok(stream) => tunnel::answer(stream, plan, version, &mut self.info.state).await,
            Err(error) => Err(Refused::Broken(error)),
        };
        match answered {
            Ok(Answered { answer, send, recv, meter }) => {
                *stage = Stage::Answered(HttpParts { host, conn, version, guard: lease, meter }, send, recv);
                Ok(answer)
            }
            Err(refused) => match conn.refusal.as_ref().and_then(RefusalSlot::get) {
                Some(refusal) => Err(self.connect_failed(ConnectFailure::of_refusal(&refusal, None), attempt)),
                None => Err(self.refused(refused, attempt)),
            },
        }
    }

    fn refused(&mut self, refused: Refused, attempt: u32) -> Option<Duration> {
        let reason = match refused {
            Refused::Status(head) => {
                self.refused = Some(head.status.as_u16());
                format!("tunnel_response:{}", head.status.as_u16())
            }
            Refused::Broken(error) => error.to_string(),
        };
        self.info.upstream_mut().transport_failure = Some(reason.into());
        self.attempt_failed(attempt)
    }

    /// Counts a failed attempt: when the next one is due, if there is to be one.
    fn attempt_failed(&mut self, attempt: u32) -> Option<Duration> {
        self.info.flags.set(ResponseFlag::UpstreamConnectionFailure);
        if attempt < self.proxy.max_connect_attempts {
            let backoff = self.proxy.backoff.as_ref();
            return Some(backoff.map_or(Duration::ZERO, |backoff| backoff.pause(attempt.saturating_add(1))));
        }
        self.info.flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        if let Some(cluster) = &self.cluster {
            cluster.report(Report::ConnectAttemptsExceeded);
        }
        self.failure = Failure::Connect;
        None
    }

    fn give_up(&mut self, failure: Failure, flag: ResponseFlag) -> Option<Duration> {
        self.failure = failure;
        self.info.flags.set(flag);
        None
    }

    fn note_host(&mut self, host: Option<&Arc<dyn Host>>) {
        if let Some(host) = host {
            let address = host.info().address.clone();
            let upstream = self.info.upstream_mut();
            upstream.host = Some(host.clone());
            upstream.remote = Some(address.clone());
            if !self.tried.contains(&address) {
                self.tried.push(address);
            }
        }
    }

    /// The way for payload is open.
    fn accepted(&self, stage: Stage, permit: Permit, attempts: u32) -> Option<Established> {
        let buffer_limit = self.cluster.as_ref().map_or(usize::MAX, |cluster| cluster.settings().buffer_limit);
        let ready = self.info.started.elapsed();
        match stage {
            Stage::Plain(upstream) => {
                let TcpUpstream { io, host, guard } = upstream.release(permit);
                let upstream = Upstream { host, conn: io.info.clone(), version: None, attempts, ready, meter: None };
                Some(Established { stream: UpStream::Plain(io), upstream, guard, buffer_limit })
            }
            Stage::Answered(HttpParts { host, conn, version, guard, meter }, send, recv) => {
                let upstream = Upstream { host, conn, version: Some(version), attempts, ready, meter };
                let stream = UpStream::Tunnel(send.release(permit), recv);
                Some(Established { stream, upstream, guard, buffer_limit })
            }
            Stage::Nothing | Stage::Pooled(_) => None,
        }
    }
}

async fn pause_until(at: Option<Instant>) {
    match at {
        Some(at) if at > Instant::now() => Box::pin(tokio::time::sleep_until(at)).await,
        _ => tokio::task::yield_now().await,
    }
}

fn original_destination(info: &StreamInfo) -> Option<std::net::SocketAddr> {
    match &info.state.get(ORIGINAL_DST_KEY)?.value {
        FilterValue::Address(address) => address.socket(),
        FilterValue::Text(text) => text.parse().ok(),
        _ => None,
    }
}
