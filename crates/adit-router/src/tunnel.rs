//! Requests for a tunnel: upgrades and CONNECT, proxied or terminated, up to the acceptance.
//!
//! [`Driver`] performs what [`adit_upgrade::Exchange`] asks for. The sink towards the upstream is [`Withheld`] until the
//! machine gives the [`Permit`].

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::{PendingResponse, RecvStream, SendStream};
use adit_filter::upstream::{Host, Lease, Report, TcpUpstream};
use adit_filter::{HttpStream, LocalReply, StandingTunnel};
use adit_http::{ErrorCode, RequestKind, ResponseHead};
use adit_io::{Side, Sink};
use adit_upgrade::{
    Action, Actions, Ask, Cause, Exchange as Machine, Input, Permit, Plan, State, Verdict, Withheld, judge,
};
use http::{StatusCode, Version, header};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::exchange::{Connected, Exchange, Missed, Next, stream_failure};
use crate::plain::{Sent, reject, tell_reset};
use crate::proxy_protocol::ProxyProtocol;
use crate::reply::{self, Failure};
use crate::standing::{Standing, Upstream};
use crate::table::route::ConnectConfig;
use crate::tcp_errors::{ConnectSink, ConnectSource};
use crate::waits::Interrupt;
use crate::websocket::Handshake;

/// How far an attempt came.
#[derive(Default)]
enum Attempt {
    #[default]
    None,
    /// There is a connection.
    Http(Connected),
    Tcp(TcpUpstream),
    /// The request was sent.
    Pending(Pending),
}

impl Attempt {
    fn pending(&mut self) -> Option<&mut Pending> {
        match self {
            Self::Pending(pending) => Some(pending),
            _ => None,
        }
    }
}

/// An upstream that was sent the request.
struct Pending {
    send: Withheld<Box<dyn SendStream>>,
    response: Box<dyn PendingResponse>,
    host: Arc<dyn Host>,
    version: Version,
    lease: Box<dyn Lease>,
}

/// One request for a tunnel on its way to the acceptance.
pub(crate) struct Driver<'e, 'r> {
    exchange: &'e mut Exchange<'r>,
    machine: Machine,
    ask: Ask,
    raw: bool,
    connect: Option<ConnectConfig>,
    /// The client's direction, where it is terminated here: its end is a half-close. Else it stays with the stream, which
    /// notices a client that leaves while the upstream's answer is awaited.
    recv: Option<Box<dyn RecvStream>>,
    attempt: Attempt,
    handshake: Handshake,
    /// The head that was last received.
    head: Option<ResponseHead>,
    /// The answer, once it is decided that there is no tunnel.
    reply: Option<Box<LocalReply>>,
    /// Why the client is not answered with `reply`.
    gone: Option<Interrupt>,
}

impl<'e, 'r> Driver<'e, 'r> {
    /// For a request for a tunnel; `raw` has it terminated here.
    pub(crate) fn new(
        exchange: &'e mut Exchange<'r>,
        stream: &mut HttpStream,
        raw: bool,
        connect: Option<ConnectConfig>,
    ) -> Self {
        stream.end_is_leaving = !raw;
        Self {
            exchange,
            machine: Machine::new(),
            ask: Ask::of(&stream.request.kind).unwrap_or(Ask::Post),
            raw,
            connect,
            recv: if raw { stream.recv.take() } else { None },
            attempt: Attempt::None,
            handshake: Handshake::default(),
            head: None,
            reply: None,
            gone: None,
        }
    }
}

impl Driver<'_, '_> {
    /// Sees the request to the upstream's acceptance, or answers it. Of what then still comes from the client nothing is read.
    pub(crate) async fn run(&mut self, stream: &mut HttpStream) -> Option<Box<dyn StandingTunnel>> {
        let mut actions = Actions::default();
        self.machine.handle(stream.now.into_std(), Input::Request(self.ask), &mut actions);
        loop {
            let input = match actions.pop() {
                None => self.wait(stream).await,
                Some(Action::Route) => Input::Routed(self.plan()),
                Some(Action::Connect) => self.open_connection(stream).await,
                Some(Action::SendRequest) => match self.send_request(stream) {
                    Some(failed) => failed,
                    None => continue,
                },
                Some(Action::Inform) => {
                    if let Some(head) = self.head.take() {
                        // A client that left is noticed by the next wait.
                        let _ = stream.inform(head);
                    }
                    continue;
                }
                Some(Action::Accept(permit)) => return self.accept(stream, permit).await,
                Some(Action::TryExpired) => {
                    if let Some(pending) = self.attempt.pending() {
                        pending.host.report(Report::PerTryTimeout);
                    }
                    self.failed(stream, &Failure::TryTimeout { idle: false })
                }
                Some(Action::DropUpstream) => {
                    self.drop_upstream();
                    continue;
                }
                Some(Action::Refuse(cause)) => {
                    Box::pin(self.refuse(stream, cause)).await;
                    Input::Replied
                }
                Some(Action::Finish) => {
                    if let Some(interrupt) = self.gone {
                        Box::pin(reject(stream, interrupt)).await;
                    }
                    return None;
                }
            };
            self.machine.handle(stream.now.into_std(), input, &mut actions);
        }
    }

    /// The route's timeouts are for upgrades: those of a CONNECT would begin with the end of its request, which is the end
    /// of the tunnel.
    fn plan(&self) -> Plan {
        let timed = self.ask == Ask::Upgrade;
        Plan {
            terminate: self.raw,
            response_timeout: self.exchange.timeouts.response.filter(|_| timed),
            per_try_timeout: self.exchange.timeouts.per_try.filter(|_| timed),
        }
    }

    fn set_deadline(&mut self) {
        self.exchange.waits.response = self.machine.deadline().map(Instant::from_std);
    }

    async fn open_connection(&mut self, stream: &mut HttpStream) -> Input {
        self.set_deadline();
        self.exchange.begin(stream);
        let missed = if self.raw {
            match self.connect_raw(stream).await {
                Ok(Some(upstream)) => {
                    self.attempt = Attempt::Tcp(upstream);
                    return Input::Connected;
                }
                Ok(None) => {
                    self.reply = Some(Box::new(self.exchange.reply(reply::early_connect_data(), stream)));
                    return Input::AttemptFailed { again: None };
                }
                Err(missed) => missed,
            }
        } else {
            let extended = matches!(stream.request.kind, RequestKind::Upgrade(_));
            match self.exchange.connect(stream, extended).await {
                Ok(upstream) => {
                    self.attempt = Attempt::Http(upstream);
                    return Input::Connected;
                }
                Err(missed) => missed,
            }
        };
        match missed {
            Missed::Failed(failure) => self.failed(stream, &failure),
            Missed::Interrupted(interrupt) => self.interrupted(stream, interrupt),
        }
    }

    /// Connects the raw upstream; `None` when bytes came that may not come before the answer.
    async fn connect_raw(&mut self, stream: &mut HttpStream) -> Result<Option<TcpUpstream>, Missed> {
        let refuses = self.exchange.options.reject_early_data && self.ask == Ask::Connect;
        let Some(recv) = self.recv.as_mut().filter(|_| refuses) else {
            return self.exchange.connect_tcp(stream, |_| false).await;
        };
        let mut lost = None;
        let mut over = false;
        let early = |cx: &mut Context<'_>| {
            if over {
                return false;
            }
            match recv.poll_chunk(cx, 1) {
                Poll::Ready(Some(Ok(_))) => true,
                Poll::Ready(Some(Err(error))) => {
                    lost = Some(error);
                    true
                }
                Poll::Ready(None) => {
                    over = true;
                    false
                }
                Poll::Pending => false,
            }
        };
        let result = self.exchange.connect_tcp(stream, early).await;
        match lost {
            Some(error) => Err(Missed::Interrupted(Interrupt::Client(error))),
            None => result,
        }
    }

    /// Opens the stream; what is to be told to the machine when that fails.
    fn send_request(&mut self, stream: &mut HttpStream) -> Option<Input> {
        let Attempt::Http(Connected { mut lease, host, version }) = std::mem::take(&mut self.attempt) else {
            return Some(Input::AttemptFailed { again: None });
        };
        let mut head = Cow::Borrowed(&stream.request);
        self.handshake = Handshake::begin(&mut head, version);
        match lease.open(&head, false) {
            Ok(opened) => {
                stream.info.upstream_mut().measure(opened.meter);
                self.exchange.sent(stream);
                self.exchange.waits.start_try(None, self.exchange.timeouts.per_try_idle, stream.now);
                let send = Withheld::new(opened.send);
                self.attempt = Attempt::Pending(Pending { send, response: opened.response, host, version, lease });
                None
            }
            Err(error) => {
                let failure = stream_failure(stream, &error, version);
                Some(self.failed(stream, &failure))
            }
        }
    }

    /// Waits for whatever the machine waits for.
    async fn wait(&mut self, stream: &mut HttpStream) -> Input {
        self.set_deadline();
        let waits = &mut self.exchange.waits;
        let Some(pending) = self.attempt.pending().filter(|_| self.machine.state() == State::AwaitResponse) else {
            let interrupt = std::future::poll_fn(|cx| waits.poll(cx, stream)).await;
            stream.now = Instant::now();
            return self.interrupted(stream, interrupt);
        };
        let result = std::future::poll_fn(|cx| match pending.response.poll_head(cx) {
            Poll::Ready(head) => Poll::Ready(Ok(head)),
            Poll::Pending => waits.poll(cx, stream).map(Err),
        })
        .await;
        stream.now = Instant::now();
        match result {
            Ok(Ok(head)) => self.answered(stream, head),
            Ok(Err(error)) => {
                tell_reset(&*pending.host, &error);
                let failure = stream_failure(stream, &error, pending.version);
                self.failed(stream, &failure)
            }
            Err(interrupt) => self.interrupted(stream, interrupt),
        }
    }

    fn answered(&mut self, stream: &mut HttpStream, mut head: ResponseHead) -> Input {
        let Some(pending) = self.attempt.pending() else { return Input::AttemptFailed { again: None } };
        let answer = judge(self.ask, &head, pending.version, Some(stream.request.version));
        match answer.verdict() {
            Verdict::Interim => self.exchange.charge(stream, head.status),
            Verdict::Accepted => self.exchange.received(stream, &*pending.host, &head),
            Verdict::Refused | Verdict::Invalid => self.exchange.head_came(stream),
        }
        match answer.verdict() {
            Verdict::Interim
                if head.status == StatusCode::CONTINUE && !stream.request.headers.contains_key(header::EXPECT) =>
            {
                return Input::Tick;
            }
            Verdict::Interim => {}
            Verdict::Accepted => {
                if !self.handshake.finish(&stream.request, pending.version, &mut head) {
                    let reply = reply::invalid_answer(self.exchange.retry.retried());
                    self.reply = Some(Box::new(self.exchange.reply(reply, stream)));
                    return Input::AttemptFailed { again: None };
                }
            }
            Verdict::Refused => {
                let pause = self.exchange.after_head(stream, &head, true);
                self.exchange.count(stream, &*pending.host, head.status, pause.is_some());
                if let Some(pause) = pause {
                    return Input::AttemptFailed { again: Some(pause) };
                }
            }
            Verdict::Invalid => {
                self.exchange.charge(stream, StatusCode::BAD_GATEWAY);
                let reply = reply::invalid_answer(self.exchange.retry.retried());
                self.reply = Some(Box::new(self.exchange.reply(reply, stream)));
            }
        }
        self.head = Some(head);
        Input::Answer(answer)
    }

    /// What a failed attempt means to the machine. Another one is always possible: no payload was sent.
    fn failed(&mut self, stream: &mut HttpStream, failure: &Failure) -> Input {
        match self.exchange.after_failure(stream, failure, self.attempt.pending().is_some(), true) {
            Next::Again(pause) => Input::AttemptFailed { again: Some(pause) },
            Next::Reply(reply) => {
                self.reply = Some(Box::new(reply));
                Input::AttemptFailed { again: None }
            }
        }
    }

    fn interrupted(&mut self, stream: &mut HttpStream, interrupt: Interrupt) -> Input {
        match interrupt {
            Interrupt::Response => Input::Tick,
            Interrupt::PerTry | Interrupt::PerTryIdle => {
                if let Some(pending) = self.attempt.pending() {
                    pending.host.report(Report::PerTryIdleTimeout);
                }
                self.failed(stream, &Failure::TryTimeout { idle: true })
            }
            Interrupt::Client(_) => {
                let host = self.attempt.pending().map(|pending| pending.host.clone());
                self.exchange.interrupted(stream, interrupt, host.as_deref());
                self.gone = Some(interrupt);
                Input::ClientGone
            }
            Interrupt::Idle | Interrupt::MaxDuration => {
                let host = self.attempt.pending().map(|pending| pending.host.clone());
                self.reply = self.exchange.interrupted(stream, interrupt, host.as_deref()).map(Box::new);
                Input::AttemptFailed { again: None }
            }
        }
    }

    fn drop_upstream(&mut self) {
        if let Some(pending) = self.attempt.pending() {
            pending.host.report(Report::SentReset);
        }
        self.attempt = Attempt::None;
        self.head = None;
    }

    async fn refuse(&mut self, stream: &mut HttpStream, cause: Cause) {
        let reply = match cause {
            Cause::Upstream => {
                let attempt = std::mem::take(&mut self.attempt);
                let (Attempt::Pending(pending), Some(head)) = (attempt, self.head.take()) else { return };
                let Pending { send, response, host, version, lease } = pending;
                self.exchange.waits.response = None;
                let sent = Sent { response, upload: None, host, version, lease };
                let mut body = RequestBody::new(None, 0);
                if let Some(mut passing) = self.exchange.answer(stream, &mut body, head, sent) {
                    self.exchange.pass(stream, &mut body, &mut passing).await;
                }
                // Dropped sooner, it would reset the answer on its way.
                drop(send);
                return;
            }
            Cause::Timeout => {
                self.exchange.cluster.report(Report::Timeout);
                self.exchange.charge(stream, StatusCode::GATEWAY_TIMEOUT);
                Some(self.exchange.reply(reply::response_timeout(), stream))
            }
            Cause::AttemptFailed | Cause::Invalid | Cause::Local => self.reply.take().map(|reply| *reply),
        };
        let reply = reply.unwrap_or_else(|| reply::invalid_answer(false));
        // A client that left meanwhile has nothing to be told.
        let _ = stream.reply(reply).await;
    }

    async fn accept(&mut self, stream: &mut HttpStream, permit: Permit) -> Option<Box<dyn StandingTunnel>> {
        if self.recv.is_none() {
            self.recv = Some(stream.recv.take()?);
        }
        // A `?` would hold what it looks at for as long as what follows.
        let up = match self.upstream_side(stream, permit).await {
            Some(up) => up,
            None => return None,
        };
        let sink = self.answer(stream, &*up.1.host)?;
        let down = halves(&stream.request.kind, self.recv.take()?, sink).await;
        Some(Box::new(Standing::new(stream, down, up.0, up.1)))
    }

    /// The upstream's side. `None` once the client was told that there is none, or left.
    async fn upstream_side(&mut self, stream: &mut HttpStream, permit: Permit) -> Option<(Side, Upstream)> {
        if self.raw {
            let (mut side, upstream) = self.raw_side(stream, permit)?;
            if let Some(version) = self.connect.and_then(|connect| connect.proxy_protocol)
                && !Box::pin(self.send_preamble(stream, version, &mut side.sink, &*upstream.host)).await
            {
                return None;
            }
            let head = ResponseHead::new(StatusCode::OK);
            self.exchange.received(stream, &*upstream.host, &head);
            self.head = Some(head);
            if stream.request.version >= Version::HTTP_2 {
                side = Side::new(Box::new(ConnectSource(side.source)), Box::new(ConnectSink(side.sink)));
            }
            return Some((side, upstream));
        }
        let Attempt::Pending(Pending { send, response, host, version, lease }) = std::mem::take(&mut self.attempt)
        else {
            return None;
        };
        let side = halves(&stream.request.kind, response.into_recv(), send.release(permit)).await;
        Some((side, Upstream { host, guard: lease, version: Some(version), max: self.exchange.waits.max }))
    }

    fn raw_side(&mut self, stream: &mut HttpStream, permit: Permit) -> Option<(Side, Upstream)> {
        let Attempt::Tcp(TcpUpstream { io, host, guard }) = std::mem::take(&mut self.attempt) else { return None };
        self.exchange.sent(stream);
        let Side { source, sink } = Side::from(io);
        let side = Side { source, sink: Withheld::new(sink).release(permit) };
        Some((side, Upstream { host, guard, version: None, max: self.exchange.waits.max }))
    }

    /// Passes the acceptance on; `None` when the client left.
    fn answer(&mut self, stream: &mut HttpStream, host: &dyn Host) -> Option<Box<dyn SendStream>> {
        let mut head = self.head.take()?;
        // RFC 9110 sections 9.3.6 and 15.2: a tunnel has no framing.
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
        self.exchange.finish_head(stream, &mut head, host, false);
        match stream.respond(head, false, Instant::now()) {
            Ok(sink) => {
                stream.tunnel_established();
                Some(sink)
            }
            Err(error) => {
                host.report(Report::SentReset);
                stream.client_gone(error);
                None
            }
        }
    }

    /// Writes the PROXY preamble of a raw upstream. False when that failed, the client left meanwhile, or time was up.
    async fn send_preamble(
        &mut self,
        stream: &mut HttpStream,
        version: ProxyProtocol,
        sink: &mut Sink,
        host: &dyn Host,
    ) -> bool {
        let mut preamble = version.preamble(&stream.info.conn);
        let waits = &mut self.exchange.waits;
        let sent = std::future::poll_fn(|cx| match sink.poll_send(cx, &mut preamble, false) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => waits.poll(cx, stream).map(Err),
        })
        .await;
        stream.now = Instant::now();
        match sent {
            Ok(Ok(())) => return true,
            // What the upstream would give to a reader now looks like an end.
            Ok(Err(error)) => {
                host.report(Report::ReceivedReset);
                let failure = stream_failure(stream, &error, Version::HTTP_11);
                let reply = failure.reply(self.exchange.retry.retried());
                self.exchange.charge(stream, reply.status);
                let reply = self.exchange.reply(reply, stream);
                // A client that left meanwhile has nothing to be told.
                let _ = stream.reply(reply).await;
            }
            Err(interrupt) => {
                sink.reset(ErrorCode::Cancel);
                match self.exchange.interrupted(stream, interrupt, None) {
                    Some(reply) => drop(stream.reply(reply).await),
                    None => stream.reset(ErrorCode::Cancel),
                }
            }
        }
        false
    }
}

/// The halves of a stream as a relay takes them: without their codec where it has no more to do. The datagrams of a
/// CONNECT-UDP travel as capsules between two connections (RFC 9297 section 3.5).
async fn halves(kind: &RequestKind, recv: Box<dyn RecvStream>, send: Box<dyn SendStream>) -> Side {
    let udp = matches!(kind, RequestKind::Upgrade(token) if token.is_connect_udp());
    let (recv, send) = if udp { adit_codec::udp::bridge(recv, send) } else { (recv, send) };
    adit_codec::tunnel_side(recv, send).await
}
