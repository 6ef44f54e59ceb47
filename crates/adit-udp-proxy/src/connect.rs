//! From a session's first datagram to a tunnel that stands: attempts, pauses, and what is known when there are no more.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use adit_codec::{RecvStream, SendStream};
use adit_filter::upstream::{Cluster, ConnectFailure, FailureKind, Host, HttpUpstream, Need, Priority, Report};
use adit_filter::{ResponseFlag, StreamInfo};
use adit_io::{Address, ConnInfo};
use adit_upgrade::{Action, Actions, Answer, Exchange, Input, Permit, Plan, Withheld};
use http::Version;
use tokio::time::Instant;

use crate::config::TunnelPlan;
use crate::request::{Answered, Refused};
use crate::session::Session;

/// A tunnel that stands.
pub(crate) struct Established {
    pub(crate) send: Box<dyn SendStream>,
    pub(crate) recv: Box<dyn RecvStream>,
    pub(crate) host: Arc<dyn Host>,
    /// Held while the stream lives.
    pub(crate) guard: Box<dyn Send>,
    /// Bytes that may wait for the upstream.
    pub(crate) buffer_limit: usize,
}

/// Tries until an upstream accepts or no attempt is left.
pub(crate) struct Connecting<'a> {
    session: &'a Session,
    plan: &'a TunnelPlan,
    info: &'a mut StreamInfo,
    tried: Vec<Address>,
    cluster: Option<Arc<dyn Cluster>>,
}

/// What the exchange has of an upstream.
enum Stage {
    Nothing,
    Pooled(HttpUpstream),
    Answered(Parts, Withheld<Box<dyn SendStream>>, Box<dyn RecvStream>),
}

/// An upstream whose stream was opened.
struct Parts {
    host: Arc<dyn Host>,
    conn: Arc<ConnInfo>,
    version: Version,
    guard: Box<dyn Send>,
}

impl<'a> Connecting<'a> {
    pub(crate) fn new(session: &'a Session, plan: &'a TunnelPlan, info: &'a mut StreamInfo) -> Self {
        Self { session, plan, info, tried: Vec::new(), cluster: None }
    }

    /// Drives the exchange until the upstream accepted; `None` when there is no tunnel, which the flags explain. Cancelled by
    /// being dropped: what there is of the upstream is reset.
    pub(crate) async fn run(mut self) -> Option<Established> {
        let mut exchange = Exchange::new();
        let mut actions = Actions::default();
        let mut stage = Stage::Nothing;
        exchange.handle(Instant::now().into_std(), Input::Request(self.plan.ask()), &mut actions);
        loop {
            let Some(action) = actions.pop() else {
                pause_until(exchange.deadline().map(Instant::from_std)).await;
                exchange.handle(Instant::now().into_std(), Input::Tick, &mut actions);
                continue;
            };
            let input = match action {
                Action::Route => {
                    Input::Routed(Plan { terminate: false, response_timeout: None, per_try_timeout: None })
                }
                Action::Connect => match self.connect(exchange.attempts()).await {
                    Ok(upstream) => {
                        stage = Stage::Pooled(upstream);
                        Input::Connected
                    }
                    Err(again) => Input::AttemptFailed { again },
                },
                Action::SendRequest => match self.request(&mut stage, exchange.attempts()).await {
                    Ok(answer) => Input::Answer(answer),
                    Err(again) => Input::AttemptFailed { again },
                },
                Action::Accept(permit) => return self.accepted(stage, permit),
                Action::DropUpstream => {
                    stage = Stage::Nothing;
                    continue;
                }
                Action::Refuse(_) | Action::Finish => return None,
                Action::Inform | Action::TryExpired => continue,
            };
            exchange.handle(Instant::now().into_std(), input, &mut actions);
        }
    }

    /// One attempt to get a connection. An error says when the next one is due.
    async fn connect(&mut self, attempt: u32) -> Result<HttpUpstream, Option<Duration>> {
        let proxy = &self.session.proxy;
        let known = self.info.upstream_mut();
        known.attempts = attempt;
        known.cluster = Some(proxy.cluster.clone());
        let Some(cluster) = self.session.link.worker.clusters.get(&proxy.cluster) else {
            proxy.stats.downstream_sess_no_route.inc();
            self.info.flags.set(ResponseFlag::NoClusterFound);
            return Err(None);
        };
        self.cluster = Some(cluster.clone());
        let need = Need {
            priority: Priority::Default,
            hash: proxy.hash(self.session.key.peer),
            metadata_match: None,
            tried: &self.tried,
            reselect: 0,
            request: None,
            tls_names: None,
            downstream: Some(&self.info.conn),
            state: &self.info.state,
            metadata: &self.info.metadata,
            extended_connect: self.plan.post.is_none(),
            address: None,
            wait: true,
            speaks_first: false,
        };
        let connected = cluster.http(&need).await;
        connected.map_err(|failure| self.connect_failed(failure, attempt))
    }

    fn connect_failed(&mut self, failure: ConnectFailure, attempt: u32) -> Option<Duration> {
        let ConnectFailure { kind, reason, host, .. } = failure;
        self.note_host(host.as_ref());
        if !reason.is_empty() {
            self.info.upstream_mut().transport_failure = Some(reason);
        }
        if matches!(kind, FailureKind::NoHealthyHost | FailureKind::Overflow) {
            self.session.proxy.cluster_stats.sess_tunnel_failure.inc();
            self.info.flags.set(kind.flag());
            return None;
        }
        self.attempt_failed(attempt)
    }

    /// Sends the request over the connection at hand and waits for its acceptance.
    async fn request(&mut self, stage: &mut Stage, attempt: u32) -> Result<Answer, Option<Duration>> {
        let Stage::Pooled(upstream) = std::mem::replace(stage, Stage::Nothing) else { return Err(None) };
        let HttpUpstream { mut lease, host, version, conn } = upstream;
        self.note_host(Some(&host));
        let secure = self.cluster.as_ref().is_some_and(|cluster| cluster.settings().secure);
        let Some(head) = self.plan.head(self.info, secure) else {
            self.info.upstream_mut().transport_failure = Some(Cow::Borrowed("invalid_tunnel_target"));
            return Err(self.attempt_failed(attempt));
        };
        let answered = match lease.open(&head, false) {
            Ok(stream) => self.plan.answer(stream, version, &mut self.info.state).await,
            Err(error) => Err(Refused::Broken(error)),
        };
        match answered {
            Ok(Answered { answer, send, recv }) => {
                *stage = Stage::Answered(Parts { host, conn, version, guard: lease }, send, recv);
                Ok(answer)
            }
            Err(refused) => {
                let reason = match refused {
                    Refused::Status(status) => format!("tunnel_response:{status}"),
                    Refused::Broken(error) => error.to_string(),
                };
                self.info.upstream_mut().transport_failure = Some(reason.into());
                Err(self.attempt_failed(attempt))
            }
        }
    }

    /// Counts a failed attempt: when the next one is due, if there is to be one.
    fn attempt_failed(&mut self, attempt: u32) -> Option<Duration> {
        self.session.proxy.cluster_stats.sess_tunnel_failure.inc();
        self.info.flags.set(ResponseFlag::UpstreamConnectionFailure);
        if attempt < self.plan.max_connect_attempts {
            let backoff = self.plan.backoff;
            return Some(backoff.map_or(Duration::ZERO, |backoff| backoff.pause(attempt.saturating_add(1))));
        }
        self.info.flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        if let Some(cluster) = &self.cluster {
            cluster.report(Report::ConnectAttemptsExceeded);
        }
        None
    }

    fn note_host(&mut self, host: Option<&Arc<dyn Host>>) {
        if let Some(host) = host {
            let address = host.info().address.clone();
            let known = self.info.upstream_mut();
            known.host = Some(host.clone());
            known.remote = Some(address.clone());
            if !self.tried.contains(&address) {
                self.tried.push(address);
            }
        }
    }

    /// The way for payload is open.
    fn accepted(self, stage: Stage, permit: Permit) -> Option<Established> {
        let Stage::Answered(Parts { host, conn, version, guard }, send, recv) = stage else { return None };
        self.session.proxy.cluster_stats.sess_tunnel_success.inc();
        let ready = self.session.elapsed();
        let known = self.info.upstream_mut();
        known.local = Some(conn.local.clone());
        known.remote = Some(conn.remote.clone());
        known.connection_id = conn.id;
        known.conn = Some(conn);
        known.protocol = Some(version);
        known.pool_ready = Some(ready);
        let buffer_limit = self.cluster.map_or(usize::MAX, |cluster| cluster.settings().buffer_limit);
        Some(Established { send: send.release(permit), recv, host, guard, buffer_limit })
    }
}

async fn pause_until(at: Option<Instant>) {
    match at {
        Some(at) if at > Instant::now() => tokio::time::sleep_until(at).await,
        _ => tokio::task::yield_now().await,
    }
}
