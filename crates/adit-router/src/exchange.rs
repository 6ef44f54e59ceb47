//! What plain exchanges and tunnels have in common: a request made ready, an attempt at an upstream, the response's head.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use adit_filter::upstream::{
    Cluster, ConnectFailure, FailureKind, Host, HttpUpstream, Lease, Need, Report, TcpUpstream, TlsNames,
};
use adit_filter::{HttpStream, LocalReply, LogContext, Route as _, StreamInfo};
use adit_http::{RequestHead, ResponseHead, StreamError};
use adit_io::{Address, Refusal, RefusalSlot};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use tokio::time::Instant;

use crate::RouterOptions;
use crate::reply::Failure;
use crate::reset::ResetReason;
use crate::retry::{Decision, EXPECTED_TIMEOUT, RetryState, Timeouts, asks, timeouts};
use crate::table::authority;
use crate::table::hash;
use crate::table::rewrite::{HostRewrite, rewrite_path, set_host};
use crate::table::route::{Forward, RouteEntry};
use crate::waits::{Interrupt, Waits};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// One request on its way to a cluster: what its route made of it, and how the attempts went.
pub(crate) struct Exchange<'r> {
    pub(crate) options: &'r RouterOptions,
    pub(crate) entry: &'r RouteEntry,
    pub(crate) forward: &'r Forward,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) retry: RetryState,
    pub(crate) timeouts: Timeouts,
    pub(crate) waits: Waits,
    pub(crate) attempts: u32,
    /// An attempt has waited for its connection.
    pub(crate) waited: bool,
    /// What few requests have.
    rare: Option<Box<Rare>>,
    pub(crate) hash: Option<u64>,
}

/// What few requests have.
#[derive(Default)]
struct Rare {
    /// For the answer, of a hash policy.
    cookies: Vec<HeaderValue>,
    past: Past,
    /// Of the retry circuit breaker, while a retry runs.
    permit: Option<Box<dyn Send>>,
}

/// What an attempt knows of those before it.
#[derive(Default)]
struct Past {
    /// Hosts tried, for `previous_hosts`.
    hosts: Vec<Address>,
    /// The names that TLS took from the request before it got the name of a host (`auto_host_rewrite`). As in Envoy they are
    /// the same for every attempt.
    tls_names: Option<Box<TlsNames>>,
}

/// A connection for one attempt; its facts are noted.
pub(crate) struct Connected {
    pub(crate) lease: Box<dyn Lease>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) version: Version,
}

/// Why an attempt gave no answer.
pub(crate) enum Missed {
    Failed(Failure),
    Interrupted(Interrupt),
}

/// What follows a failed attempt.
pub(crate) enum Next {
    /// Another one, after this long.
    Again(Duration),
    /// This answer.
    Reply(LocalReply),
}

/// The cluster that a route has for a request; `None` when it does not exist.
pub(crate) fn cluster_of(forward: &Forward, stream: &HttpStream) -> Option<Arc<dyn Cluster>> {
    stream.worker.clusters.get(forward.cluster.resolve(&stream.request)?)
}

impl<'r> Exchange<'r> {
    /// Applies the route to the request: fields, host, path, timeouts.
    pub(crate) fn new(
        options: &'r RouterOptions,
        entry: &'r RouteEntry,
        forward: &'r Forward,
        cluster: Arc<dyn Cluster>,
        stream: &mut HttpStream,
    ) -> Self {
        let common = &*forward.common;
        let now = stream.now;
        let settings = cluster.settings();
        let upstream = stream.info.upstream_mut();
        upstream.cluster = Some(settings.name.clone());
        upstream.cluster_metadata = settings.metadata.clone();
        let asks = asks(&stream.request.headers);
        let retry = RetryState::new(common.retry.as_ref(), &mut stream.request, asks);
        let (respect, headers) = (options.respect_expected_timeout, &mut stream.request.headers);
        let timeouts = timeouts(common.timeout, common.retry.as_deref(), headers, asks, respect);
        let (hash, cookies) = match common.hash.as_slice() {
            [] => (None, Vec::new()),
            policies => hash::hash(policies, &stream.request, &stream.info, stream.random),
        };
        let mut waits = Waits::new(stream.idle_timeout, now);
        let max = settings.max_stream_duration.filter(|limit| !limit.is_zero());
        waits.max = max.and_then(|limit| now.checked_add(limit));
        if !common.terminates_udp(&stream.request)
            && let Some(original) = stream.original_authority.take()
        {
            stream.request.authority = Some(*original);
        }
        apply_request(options, entry, forward, timeouts, stream);
        Self {
            options,
            entry,
            forward,
            cluster,
            retry,
            timeouts,
            waits,
            attempts: 0,
            waited: false,
            rare: (!cookies.is_empty()).then(|| Box::new(Rare { cookies, ..Rare::default() })),
            hash,
        }
    }

    /// Counts an attempt and writes it to the head.
    pub(crate) fn begin(&mut self, stream: &mut HttpStream) {
        self.attempts += 1;
        if self.attempts > 1 {
            stream.now = Instant::now();
        }
        stream.info.upstream_mut().attempts = self.attempts;
        if self.entry.options.attempt_count_in_request {
            stream.request.headers.insert(ATTEMPT_COUNT, HeaderValue::from(self.attempts));
        }
        if self.attempts > 1 {
            self.expect_less(stream);
        }
    }

    /// What is left of the route's `timeout` for another attempt, as the upstream is told.
    fn expect_less(&self, stream: &mut HttpStream) {
        let Some(whole) = self.timeouts.response.filter(|_| stream.request.headers.contains_key(EXPECTED_TIMEOUT))
        else {
            return;
        };
        // The time counts from the request's end.
        let Some(since) = stream.info.timing.request_received else { return };
        let left = whole.saturating_sub(stream.info.elapsed().saturating_sub(since));
        let expected = self.timeouts.per_try.map_or(left, |per_try| per_try.min(left));
        let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
        stream.request.headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
    }

    /// An HTTP connection of the cluster, with a host written to the request where the route asks for it.
    pub(crate) async fn connect(
        &mut self,
        stream: &mut HttpStream,
        extended_connect: bool,
    ) -> Result<Connected, Missed> {
        let mut pending = false;
        let result = {
            let need = need(self.forward, self.past(), &stream.request, &stream.info);
            let mut connecting = self.cluster.http(&Need { hash: self.hash, extended_connect, ..need });
            let waits = &mut self.waits;
            std::future::poll_fn(|cx| match Pin::new(&mut connecting).poll(cx) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => {
                    pending = true;
                    waits.poll(cx, stream).map(Err)
                }
            })
            .await
        };
        if pending {
            self.waited = true;
            stream.now = Instant::now();
        }
        match result {
            Ok(Ok(upstream)) => Ok(self.connected(stream, upstream)),
            Ok(Err(failure)) => Err(self.not_connected(stream, failure)),
            Err(interrupt) => Err(Missed::Interrupted(interrupt)),
        }
    }

    /// A raw connection of the cluster.
    pub(crate) async fn connect_tcp(
        &mut self,
        stream: &mut HttpStream,
        mut early: impl FnMut(&mut std::task::Context<'_>) -> bool,
    ) -> Result<Option<TcpUpstream>, Missed> {
        let result = {
            let (request, info, mut client) = stream.split();
            let (cluster, forward, hash) = (&self.cluster, self.forward, self.hash);
            let past = self.rare.as_ref().map(|rare| &rare.past);
            let mut connecting = Box::pin(async move {
                let need = Need { hash, ..need(forward, past, request, info) };
                taken(cluster.tcp(&need).await?).await
            });
            let waits = &mut self.waits;
            std::future::poll_fn(|cx| {
                if early(cx) {
                    return Poll::Ready(Ok(None));
                }
                match connecting.as_mut().poll(cx) {
                    Poll::Ready(result) => Poll::Ready(Ok(Some(result))),
                    Poll::Pending => waits.poll_watch(cx, &mut client).map(Err),
                }
            })
            .await
        };
        stream.now = Instant::now();
        match result {
            Ok(None) => Ok(None),
            Ok(Some(Ok(upstream))) => {
                self.note_host(stream, &upstream.host);
                let info = stream.info.upstream_mut();
                info.local = Some(upstream.io.info.local.clone());
                info.remote = Some(upstream.io.info.remote.clone());
                info.connection_id = upstream.io.info.id;
                info.conn = Some(upstream.io.info.clone());
                info.close_type.get_or_insert("Normal");
                Ok(Some(upstream))
            }
            Ok(Some(Err(failure))) => Err(self.not_connected(stream, failure)),
            Err(interrupt) => Err(Missed::Interrupted(interrupt)),
        }
    }

    pub(crate) fn note_host(&mut self, stream: &mut HttpStream, host: &Arc<dyn Host>) {
        if self.forward.common.retry.as_ref().is_some_and(|policy| policy.previous_hosts) {
            self.rare.get_or_insert_default().past.hosts.push(host.info().address.clone());
        }
        let elapsed = stream.info.elapsed_at(stream.now);
        let info = stream.info.upstream_mut();
        info.host = Some(host.clone());
        info.pool_ready.get_or_insert(elapsed);
    }

    fn connected(&mut self, stream: &mut HttpStream, upstream: HttpUpstream) -> Connected {
        let HttpUpstream { lease, host, version, conn } = upstream;
        self.note_host(stream, &host);
        let info = stream.info.upstream_mut();
        info.local = Some(conn.local.clone());
        info.remote = Some(conn.remote.clone());
        info.connection_id = conn.id;
        info.conn = Some(conn);
        info.protocol = Some(version);
        info.close_type.get_or_insert("Normal");
        if matches!(self.forward.host_rewrite, Some(HostRewrite::Auto))
            && let Some(name) = authority(&host.info().hostname)
        {
            self.keep_tls_names(&stream.request);
            let (append, keep) = (self.forward.common.append_forwarded_host, !self.options.suppress_envoy_headers);
            set_host(&mut stream.request, name, append, keep);
        }
        Connected { lease, host, version }
    }

    fn past(&self) -> Option<&Past> {
        self.rare.as_ref().map(|rare| &rare.past)
    }

    /// Remembers the names that TLS takes from the request, which is about to change.
    fn keep_tls_names(&mut self, request: &RequestHead) {
        let known = self.past().is_some_and(|past| past.tls_names.is_some());
        if !known
            && self.retry.possible()
            && let Some(names) = self.cluster.tls_names(request)
        {
            self.rare.get_or_insert_default().past.tls_names = Some(names);
        }
    }

    pub(crate) fn not_connected(&mut self, stream: &mut HttpStream, failure: ConnectFailure) -> Missed {
        if failure.kind == FailureKind::Loop {
            tell_loop(stream, &failure.reason);
        }
        if let Some(host) = &failure.host {
            self.note_host(stream, host);
            stream.info.upstream_mut().close_type.get_or_insert("Normal");
        }
        let kind = Failure::of_connect(&failure);
        stream.info.upstream_mut().transport_failure = (!failure.reason.is_empty()).then_some(failure.reason);
        Missed::Failed(kind)
    }

    /// The request was sent on a connection.
    pub(crate) fn sent(&mut self, stream: &mut HttpStream) {
        stream.info.timing.upstream_first_sent = Some(stream.info.elapsed_at(stream.now));
    }

    /// The response's head came, now, and it is the answer.
    pub(crate) fn received(&mut self, stream: &mut HttpStream, host: &dyn Host, head: &ResponseHead) {
        self.head_came(stream);
        self.count(stream, host, head.status, false);
    }

    /// A final head came, now.
    pub(crate) fn head_came(&mut self, stream: &mut HttpStream) {
        stream.info.timing.upstream_first_received = Some(stream.info.elapsed_at(stream.now));
        self.waits.touch_at(stream.now);
    }

    /// Counts an upstream's answer; `retried` when another attempt follows it.
    pub(crate) fn count(&self, stream: &HttpStream, host: &dyn Host, status: StatusCode, retried: bool) {
        host.report(match retried {
            true => Report::Retried { status },
            false => {
                Report::Response { status, time: service_time(stream).unwrap_or_default(), internal: stream.internal }
            }
        });
    }

    /// Counts an interim answer, or one that we make in the upstream's place.
    pub(crate) fn charge(&self, stream: &HttpStream, status: StatusCode) {
        self.cluster.report(Report::Charged { status, internal: stream.internal });
    }

    /// What follows an attempt that gave no answer. `request_sent` says that the upstream may have seen the request.
    pub(crate) fn after_failure(
        &mut self,
        stream: &mut HttpStream,
        failure: &Failure,
        request_sent: bool,
        replayable: bool,
    ) -> Next {
        self.waits.end_try();
        let decision = match failure {
            _ if !replayable => Decision::No,
            Failure::Reset { reason: ResetReason::Loop, .. } => Decision::No,
            Failure::Reset { reason, .. } => self.retry.after_reset(*reason, request_sent),
            // No upstream has seen the request: it waited at an internal listener.
            Failure::Refused { reason, .. } => self.retry.after_reset(*reason, false),
            Failure::NoHost { .. } => Decision::No,
            Failure::TryTimeout { .. } => self.retry.after_try_timeout(),
        };
        let retried = self.retry.retried();
        match self.settle(stream, decision) {
            Some(pause) => Next::Again(pause),
            None => {
                let reply = failure.reply(retried);
                self.charge(stream, reply.status);
                Next::Reply(self.reply(reply, stream))
            }
        }
    }

    /// Whether an answer is to be tried again, and after how long.
    pub(crate) fn after_head(
        &mut self,
        stream: &mut HttpStream,
        head: &ResponseHead,
        replayable: bool,
    ) -> Option<Duration> {
        // `per_try_idle_timeout` goes on: it is for the body, too.
        self.waits.per_try = None;
        let replayable = replayable && !(head.status.is_server_error() && looped(stream));
        let decision = if replayable { self.retry.after_head(head) } else { Decision::No };
        let pause = self.settle(stream, decision);
        if pause.is_some() {
            self.waits.end_try();
        }
        pause
    }

    fn settle(&mut self, stream: &mut HttpStream, decision: Decision) -> Option<Duration> {
        match decision {
            Decision::No => None,
            Decision::LimitExceeded => {
                stream.info.flags.set(adit_filter::ResponseFlag::UpstreamRetryLimitExceeded);
                self.cluster.report(Report::RetryLimitExceeded);
                None
            }
            Decision::After(pause) => {
                let rare = self.rare.get_or_insert_default();
                rare.permit = None;
                match self.cluster.retry_permit(self.forward.common.priority) {
                    Some(permit) => {
                        rare.permit = Some(permit);
                        self.cluster.report(Report::Retry);
                        Some(pause)
                    }
                    None => {
                        stream.info.flags.set(adit_filter::ResponseFlag::UpstreamOverflow);
                        None
                    }
                }
            }
        }
    }

    /// Waits before the next attempt.
    pub(crate) async fn pause(&mut self, stream: &mut HttpStream, pause: Duration) -> Result<(), Interrupt> {
        if pause.is_zero() {
            return Ok(());
        }
        let mut sleep = std::pin::pin!(tokio::time::sleep(pause));
        let waits = &mut self.waits;
        std::future::poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => waits.poll(cx, stream).map(Err),
        })
        .await
    }

    /// The response's head as the route wants it.
    pub(crate) fn finish_head(
        &mut self,
        stream: &mut HttpStream,
        head: &mut ResponseHead,
        host: &dyn Host,
        complete: bool,
    ) {
        if self.retry.retried() && !head.status.is_server_error() {
            host.report(Report::RetrySuccess);
        }
        if !self.options.suppress_envoy_headers
            && complete
            && let Some(time) = service_time(stream)
        {
            head.headers.insert(SERVICE_TIME, decimal(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
        }
        for cookie in self.rare.iter().flat_map(|rare| &rare.cookies) {
            head.headers.append(http::header::SET_COOKIE, cookie.clone());
        }
        if self.entry.options.attempt_count_in_response {
            head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(self.attempts));
        }
        // Formats of fields to add may read it.
        stream.info.response_code = head.status.as_u16();
        mutate_response(self.entry, stream, head);
        stream.info.details = Some("via_upstream".into());
    }

    /// A local reply with what the route adds to every answer.
    pub(crate) fn reply(&self, mut reply: LocalReply, stream: &HttpStream) -> LocalReply {
        if self.entry.options.attempt_count_in_response && self.attempts > 0 {
            reply.headers.insert(ATTEMPT_COUNT, HeaderValue::from(self.attempts));
        }
        mutate_reply(self.entry, stream, &mut reply);
        reply
    }

    /// The answer to an interrupt before the response; `None` when there is nobody to answer.
    pub(crate) fn interrupted(
        &mut self,
        stream: &mut HttpStream,
        interrupt: Interrupt,
        host: Option<&dyn Host>,
    ) -> Option<LocalReply> {
        use crate::reply;
        let report = |report: Report| match host {
            Some(host) => host.report(report),
            None => self.cluster.report(report),
        };
        let reply = match interrupt {
            Interrupt::Client(error) => {
                stream.client_gone(error);
                return None;
            }
            Interrupt::Response | Interrupt::PerTry | Interrupt::PerTryIdle => {
                report(Report::Timeout);
                self.charge(stream, StatusCode::GATEWAY_TIMEOUT);
                reply::response_timeout()
            }
            Interrupt::Idle => reply::idle_timeout(stream.info.timing.request_received.is_some()),
            Interrupt::MaxDuration => {
                report(Report::MaxDuration);
                reply::max_duration(stream.info.timing.request_received.is_some())
            }
        };
        Some(self.reply(reply, stream))
    }
}

/// What a cluster is asked for a connection with.
fn need<'a>(forward: &'a Forward, past: Option<&'a Past>, request: &'a RequestHead, info: &'a StreamInfo) -> Need<'a> {
    Need {
        priority: forward.common.priority,
        hash: None,
        metadata_match: forward.metadata_match.as_ref(),
        tried: past.map_or(&[], |past| &past.hosts),
        reselect: forward.common.retry.as_ref().map_or(0, |policy| policy.reselect),
        request: Some(request),
        tls_names: past.and_then(|past| past.tls_names.as_deref()),
        downstream: Some(&info.conn),
        state: &info.state,
        metadata: &info.metadata,
        extended_connect: false,
        address: None,
        wait: true,
        speaks_first: false,
    }
}

/// From the request as it was sent to the head of its answer.
fn service_time(stream: &HttpStream) -> Option<Duration> {
    let timing = &stream.info.timing;
    Some(timing.upstream_first_received?.saturating_sub(timing.upstream_first_sent?))
}

/// A number as a field's value; the smallest, which are the most frequent, without memory of their own.
fn decimal(number: u64) -> HeaderValue {
    const SMALL: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    match usize::try_from(number).ok().and_then(|number| SMALL.get(number)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(number),
    }
}

/// A raw upstream that may be promised to the client: an internal listener may yet refuse it.
async fn taken(mut upstream: TcpUpstream) -> Result<TcpUpstream, ConnectFailure> {
    if std::future::poll_fn(|cx| upstream.io.poll_taken(cx)).await {
        return Ok(upstream);
    }
    let refusal = upstream.io.info.refusal.as_ref().and_then(RefusalSlot::get).unwrap_or_default();
    Err(ConnectFailure::of_refusal(&refusal, Some(upstream.host.clone())))
}

/// Whether the upstream is an internal listener behind which the hop limit was reached: each hop's retries would multiply.
fn looped(stream: &HttpStream) -> bool {
    let conn = stream.info.upstream.as_ref().and_then(|upstream| upstream.conn.as_ref());
    let refusal = conn.and_then(|conn| conn.refusal.as_ref()?.take_loop());
    if let Some(refusal) = &refusal {
        tell_loop(stream, &refusal.details);
    }
    refusal.is_some()
}

/// Has who connected to us know that the hop limit was reached, so that nobody on the way here tries again.
fn tell_loop(stream: &HttpStream, reason: &str) {
    if let Some(slot) = &stream.info.conn.refusal {
        let flags = adit_filter::ResponseFlags::from(FailureKind::Loop.flag()).to_bits();
        slot.set(Refusal { status: None, flags, details: reason.into(), looped: true });
    }
}

/// The failure of a stream that was opened. Where an internal listener refused the connection, it is that.
pub(crate) fn stream_failure(stream: &mut HttpStream, error: &StreamError, version: Version) -> Failure {
    let conn = stream.info.upstream.as_ref().and_then(|upstream| upstream.conn.as_ref());
    if let Some(refusal) = conn.and_then(|conn| conn.refusal.as_ref()?.get()) {
        let failure = ConnectFailure::of_refusal(&refusal, None);
        if failure.kind == FailureKind::Loop {
            tell_loop(stream, &failure.reason);
        }
        let kind = Failure::of_connect(&failure);
        stream.info.upstream_mut().transport_failure = (!failure.reason.is_empty()).then_some(failure.reason);
        return kind;
    }
    let detail = match error {
        // What its codec of HTTP/1 has against an answer Envoy does not say.
        StreamError::Protocol(detail) | StreamError::TooLarge(detail) if !detail.starts_with("http1.") => *detail,
        _ => "",
    };
    Failure::Reset { reason: ResetReason::of_stream(error, version), detail: detail.into() }
}

fn apply_request(
    options: &RouterOptions,
    entry: &RouteEntry,
    forward: &Forward,
    timeouts: Timeouts,
    stream: &mut HttpStream,
) {
    let common = &*forward.common;
    for adder in &entry.mutations.request {
        adder.apply_request(&mut stream.request, &stream.info);
    }
    if let Some(rewrite) = &forward.host_rewrite
        && let Some(new) = rewrite.apply(&stream.request)
    {
        let keep = !options.suppress_envoy_headers && !matches!(rewrite, HostRewrite::Weighted(_));
        set_host(&mut stream.request, new, common.append_forwarded_host, keep);
    }
    if let Some(rewrite) = &common.path_rewrite {
        rewrite_path(&mut stream.request, rewrite, &entry.path, !options.suppress_envoy_headers);
    }
    if !options.suppress_envoy_headers
        && let Some(expected) = timeouts.per_try.or(timeouts.response)
    {
        let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
        stream.request.headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
    }
}

/// What the route does to the head of an answer.
pub(crate) fn mutate_response(entry: &RouteEntry, stream: &HttpStream, head: &mut ResponseHead) {
    for adder in &entry.mutations.response {
        adder.apply_response(head, Some(&stream.request), &stream.info);
    }
}

/// What the route does to the head of a local reply.
pub(crate) fn mutate_reply(entry: &RouteEntry, stream: &HttpStream, reply: &mut LocalReply) {
    for adder in &entry.mutations.response {
        let context = LogContext { request: Some(&stream.request), ..LogContext::new(&stream.info) };
        adder.apply(&mut reply.headers, &context);
    }
}

/// The name of a route for logs, and the stream's own for what is not routed.
pub(crate) fn name_route(entry: &RouteEntry, stream: &mut HttpStream) {
    if stream.info.route_name.is_none() && !entry.name().is_empty() {
        stream.info.route_name = Some(entry.name().clone());
    }
}
