//! Requests that ask for no tunnel.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_codec::PendingResponse;
use adit_filter::upstream::{Host, Lease, Report};
use adit_filter::{HttpStream, ResponseFlag};
use adit_http::{ErrorCode, ResponseHead, StreamError};
use http::{Method, StatusCode, Version, header};
use tokio::time::Instant;

use crate::body::{Body as _, Pump, PumpError, RequestBody, ResponseBody};
use crate::exchange::{Connected, Exchange, Missed, Next, stream_failure};
use crate::mirror;
use crate::reply::Failure;
use crate::reset::ResetReason;
use crate::waits::{Interrupt, after};

/// Bytes of a request's body kept for another attempt where nothing is configured: 64 KiB, or the connection's buffer limit
/// where that is smaller.
pub(crate) const RETRY_BUFFER: usize = 64 * 1024;

/// An upstream that was sent the request.
pub(crate) struct Sent {
    pub(crate) response: Box<dyn PendingResponse>,
    pub(crate) upload: Option<Pump>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) version: Version,
    pub(crate) lease: Box<dyn Lease>,
}

/// An answer whose head was passed on.
pub(crate) struct Passing {
    /// Held until the upstream has done with the request, however long the client then takes.
    lease: Option<Box<dyn Lease>>,
    download: Pump,
    recv: ResponseBody,
    upload: Option<Pump>,
    host: Arc<dyn Host>,
    version: Version,
}

/// What follows an attempt.
enum Step {
    Pass(Passing),
    Again(Duration),
    /// No answer came. With the host once the request was sent.
    Missed(Missed, Option<Arc<dyn Host>>),
    /// The client left.
    Over,
}

impl Exchange<'_> {
    /// Takes a plain request to its cluster and the answer to the client. The future is made for every request: what is rare
    /// is in boxes of its own, and what one part holds is gone when the next begins.
    pub(crate) async fn run_plain(&mut self, stream: &mut HttpStream) {
        let limit = self.entry.body_limit.unwrap_or(RETRY_BUFFER.min(stream.buffer_limit));
        let mut body = RequestBody::new(stream.recv.take(), limit);
        self.mirror(stream, &mut body, limit);
        self.waits.response = self.timeouts.response.and_then(|limit| stream.now.checked_add(limit));
        let mut passing = loop {
            if !self.retry.possible() {
                body.forget();
            }
            let step = 'attempt: {
                let mut sent = match self.send(stream, &mut body).await {
                    Ok(sent) => sent,
                    Err(missed) => break 'attempt Step::Missed(missed, None),
                };
                match self.await_answer(stream, &mut body, &mut sent).await {
                    Ok(head) => self.answered(stream, &mut body, head, sent),
                    Err(missed) => Step::Missed(missed, Some(sent.host)),
                }
            };
            match step {
                Step::Pass(passing) => break passing,
                Step::Over => return,
                other => {
                    if !body.is_complete() && self.waited && matches!(other, Step::Missed(..)) {
                        // Envoy has read it by now; not where the attempt failed at once.
                        std::future::poll_fn(|cx| {
                            body.poll_arrived(cx, &mut stream.info);
                            Poll::Ready(())
                        })
                        .await;
                    }
                    let replayable = self.replayable(&body);
                    if !Box::pin(self.again_or_end(stream, other, replayable)).await {
                        return;
                    }
                }
            }
            body.rewind();
        };
        self.pass(stream, &mut body, &mut passing).await;
    }

    /// Decides whether this is the answer, and passes its head on.
    fn answered(
        &mut self,
        stream: &mut HttpStream,
        body: &mut RequestBody,
        head: ResponseHead,
        mut sent: Sent,
    ) -> Step {
        let replayable = self.replayable(body);
        let pause = self.after_head(stream, &head, replayable);
        self.count(stream, &*sent.host, head.status, pause.is_some());
        match pause {
            Some(pause) => {
                if let Some(upload) = &mut sent.upload {
                    upload.sink.reset(ErrorCode::Cancel);
                }
                Step::Again(pause)
            }
            None => self.answer(stream, body, head, sent).map_or(Step::Over, Step::Pass),
        }
    }

    /// Waits until another attempt begins; false once the client was told that none does, or left.
    async fn again_or_end(&mut self, stream: &mut HttpStream, step: Step, replayable: bool) -> bool {
        let reply = match step {
            Step::Again(pause) => return self.pause_or_end(stream, pause).await,
            Step::Missed(Missed::Interrupted(interrupt), host) => {
                match self.interrupted(stream, interrupt, host.as_deref()) {
                    Some(reply) => reply,
                    None => {
                        reject(stream, interrupt).await;
                        return false;
                    }
                }
            }
            Step::Missed(Missed::Failed(failure), host) => {
                match self.after_failure(stream, &failure, host.is_some(), replayable) {
                    Next::Again(pause) => return self.pause_or_end(stream, pause).await,
                    Next::Reply(reply) => reply,
                }
            }
            Step::Pass(_) | Step::Over => return false,
        };
        // A client that left meanwhile has nothing to be told.
        let _ = stream.reply(reply).await;
        false
    }

    /// Waits before the next attempt; false where the request ends meanwhile.
    async fn pause_or_end(&mut self, stream: &mut HttpStream, pause: Duration) -> bool {
        let Err(interrupt) = self.pause(stream, pause).await else { return true };
        if let Some(reply) = self.interrupted(stream, interrupt, None) {
            let _ = stream.reply(reply).await;
        }
        false
    }

    /// Whether a policy may be asked about another attempt: where none is left, only to say that the limit was reached.
    fn replayable(&self, body: &RequestBody) -> bool {
        body.can_replay() || !self.retry.possible()
    }

    fn mirror(&self, stream: &HttpStream, body: &mut RequestBody, limit: usize) {
        let end = body.is_complete();
        for policy in &self.forward.common.mirrors {
            let limit = limit.max(RETRY_BUFFER);
            body.taps.extend(mirror::start(policy, stream, &stream.request, end, limit, self.timeouts.response));
        }
    }

    /// The rest of an attempt, up to the response's head.
    async fn await_answer(
        &mut self,
        stream: &mut HttpStream,
        body: &mut RequestBody,
        sent: &mut Sent,
    ) -> Result<ResponseHead, Missed> {
        loop {
            match std::future::poll_fn(|cx| self.poll_head(cx, stream, body, sent)).await {
                Ok(head) if is_interim(head.status) => {
                    self.charge(stream, head.status);
                    if head.status != StatusCode::CONTINUE || stream.request.headers.contains_key(header::EXPECT) {
                        // The client may be gone; the next wait notices.
                        let _ = stream.inform(head);
                    }
                }
                Ok(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    sent.host.report(Report::SentReset);
                    let failure = Failure::Reset { reason: ResetReason::ProtocolError, detail: "".into() };
                    return Err(Missed::Failed(failure));
                }
                Ok(head) => {
                    stream.now = Instant::now();
                    self.head_came(stream);
                    return Ok(head);
                }
                Err(Wait::Upstream(error)) => {
                    tell_reset(&*sent.host, &error);
                    return Err(Missed::Failed(stream_failure(stream, &error, sent.version)));
                }
                Err(Wait::Interrupted(interrupt)) => {
                    sent.host.report(Report::SentReset);
                    return Err(match interrupt {
                        Interrupt::PerTry | Interrupt::PerTryIdle => {
                            let idle = interrupt == Interrupt::PerTryIdle;
                            sent.host.report(if idle { Report::PerTryIdleTimeout } else { Report::PerTryTimeout });
                            Missed::Failed(Failure::TryTimeout { idle })
                        }
                        other => Missed::Interrupted(other),
                    });
                }
            }
        }
    }

    /// Sends the request's head on a connection of the cluster.
    async fn send(&mut self, stream: &mut HttpStream, body: &mut RequestBody) -> Result<Sent, Missed> {
        let end = body.is_end();
        let complete = body.is_complete();
        self.begin(stream);
        let Connected { mut lease, host, version } = self.connect(stream, false).await?;
        let opened = match lease.open(&stream.request, end) {
            Ok(opened) => opened,
            Err(error) => return Err(Missed::Failed(stream_failure(stream, &error, version))),
        };
        stream.info.upstream_mut().measure(opened.meter);
        self.sent(stream);
        self.waits.start_try(self.timeouts.per_try, self.timeouts.per_try_idle, stream.now);
        if !complete {
            // The time counts from the request's end (`RouteAction.timeout`).
            self.waits.response = None;
            self.waits.per_try = None;
        }
        let upload = (!end).then(|| Pump::new(opened.send, false));
        Ok(Sent { response: opened.response, upload, host, version, lease })
    }

    /// Sends the body while the head is awaited.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut HttpStream,
        body: &mut RequestBody,
        sent: &mut Sent,
    ) -> Poll<Result<ResponseHead, Wait>> {
        let Sent { response, upload, .. } = sent;
        if let Poll::Ready(head) = response.poll_head(cx) {
            return Poll::Ready(head.map_err(Wait::Upstream));
        }
        if let Some(pump) = upload {
            let (before, was_complete) = (pump.moved, body.is_complete());
            let polled = pump.poll(cx, body, &mut stream.info);
            if pump.moved != before {
                self.waits.touch();
                stream.info.upstream_mut().bytes_sent += pump.moved - before;
            }
            let over = match polled {
                Poll::Ready(Err(PumpError::Source(error))) => {
                    pump.sink.reset(error.code());
                    return Poll::Ready(Err(Wait::Interrupted(Interrupt::Client(error))));
                }
                // An upstream that reads no more may have answered; its answer, or its failure, is yet to be read.
                Poll::Ready(Ok(()) | Err(PumpError::Sink(_))) => true,
                Poll::Pending => false,
            };
            if over {
                if polled == Poll::Ready(Ok(())) {
                    stream.info.timing.upstream_last_sent = Some(stream.info.elapsed());
                }
                *upload = None;
            }
            if over || (body.is_complete() && !was_complete) {
                self.start_response_timer();
            }
            // The response may have come with what the upload moved on a shared connection.
            if over && let Poll::Ready(head) = response.poll_head(cx) {
                return Poll::Ready(head.map_err(Wait::Upstream));
            }
        }
        self.waits.poll(cx, stream).map(|interrupt| Err(Wait::Interrupted(interrupt)))
    }

    fn start_response_timer(&mut self) {
        if self.waits.response.is_none() {
            self.waits.response = self.timeouts.response.and_then(after);
        }
        if self.waits.per_try.is_none() {
            self.waits.per_try = self.timeouts.per_try.and_then(after);
        }
    }

    /// Passes an answer's head on; `None` when the client left.
    pub(crate) fn answer(
        &mut self,
        stream: &mut HttpStream,
        body: &mut RequestBody,
        mut head: ResponseHead,
        sent: Sent,
    ) -> Option<Passing> {
        let Sent { response, upload, host, version, lease } = sent;
        // The refusal of a tunnel answers a request that has no end.
        let complete = body.is_complete() && !stream.request.kind.is_tunnel();
        self.finish_head(stream, &mut head, &*host, complete);
        let bodiless = stream.request.method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let recv = ResponseBody(response.into_recv());
        let end = bodiless || recv.0.is_end();
        body.forget();
        match stream.respond(head, end, stream.now) {
            Ok(sink) => {
                Some(Passing { lease: Some(lease), download: Pump::new(sink, end), recv, upload, host, version })
            }
            Err(error) => {
                host.report(Report::SentReset);
                stream.client_gone(error);
                None
            }
        }
    }

    /// Passes the rest of an answer on: body, trailers; and what is left of the request meanwhile.
    pub(crate) async fn pass(&mut self, stream: &mut HttpStream, body: &mut RequestBody, passing: &mut Passing) {
        let result = std::future::poll_fn(|cx| self.poll_both(cx, stream, body, passing)).await;
        match result {
            Ok(()) => {
                if let Some(upload) = &mut passing.upload {
                    // The answer is complete; what the client still sends has no reader (RFC 9113 section 8.1).
                    upload.sink.reset(ErrorCode::NoError);
                    body.stop();
                }
            }
            Err(end) => cut(stream, passing, end),
        }
    }

    fn poll_both(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut HttpStream,
        body: &mut RequestBody,
        passing: &mut Passing,
    ) -> Poll<Result<(), Cut>> {
        let Passing { upload, recv, download, host, lease, .. } = passing;
        if let Some(pump) = upload {
            let before = pump.moved;
            let polled = pump.poll(cx, body, &mut stream.info);
            if pump.moved != before {
                self.waits.touch();
                stream.info.upstream_mut().bytes_sent += pump.moved - before;
            }
            match polled {
                Poll::Ready(Err(PumpError::Source(error))) => return Poll::Ready(Err(Cut::Client(error))),
                Poll::Ready(done) => {
                    if done.is_ok() {
                        stream.info.timing.upstream_last_sent = Some(stream.info.elapsed());
                    }
                    *upload = None;
                }
                Poll::Pending => {}
            }
        }
        let (before, stalled) = (download.moved, download.stalled);
        let polled = download.poll(cx, recv, &mut stream.info);
        let moved = download.moved - before;
        if moved > 0 {
            // At once: a line may be due before the end, and who cuts the stream from above drops this future.
            stream.info.bytes_sent += moved;
            stream.info.upstream_mut().bytes_received += moved;
        }
        let mut now = None;
        if upload.is_none()
            && download.is_dry()
            && let Some(lease) = lease.take()
        {
            lease.over(*now.insert(Instant::now()));
        }
        if stalled != download.stalled {
            host.report(Report::FlowControl { paused: download.stalled });
        }
        stream.poll_tick(cx);
        match polled {
            Poll::Ready(Ok(())) => {
                let now = now.unwrap_or_else(Instant::now);
                stream.info.timing.downstream_last_sent = Some(stream.info.elapsed_at(now));
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(PumpError::Source(error))) => Poll::Ready(Err(Cut::Upstream(error))),
            Poll::Ready(Err(PumpError::Sink(error))) => Poll::Ready(Err(Cut::Client(error))),
            Poll::Pending => {
                if moved > 0 {
                    self.waits.touch();
                }
                self.waits.poll_time(cx, &mut stream.lent.alarm).map(|interrupt| Err(Cut::Time(interrupt)))
            }
        }
    }
}

/// Why no head came.
enum Wait {
    Upstream(StreamError),
    Interrupted(Interrupt),
}

/// Why an answer was not passed on to its end.
enum Cut {
    Upstream(StreamError),
    Client(StreamError),
    Time(Interrupt),
}

/// Reports an upstream's stream that failed.
pub(crate) fn tell_reset(host: &dyn Host, error: &StreamError) {
    if matches!(error, StreamError::Protocol(_) | StreamError::TooLarge(_)) {
        host.report(Report::ProtocolError);
    }
    host.report(Report::ReceivedReset);
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// The end of a request that has no answer of its own: see [`HttpStream::reject`].
pub(crate) async fn reject(stream: &mut HttpStream, interrupt: Interrupt) {
    match interrupt {
        Interrupt::Client(error) => stream.reject(error).await,
        _ => stream.reset(ErrorCode::Cancel),
    }
}

/// Ends both sides of an exchange that was cut short: a truncated answer must never look complete.
fn cut(stream: &mut HttpStream, passing: &mut Passing, end: Cut) {
    let Passing { upload, download, host, version, .. } = passing;
    let code = match end {
        Cut::Client(error) => {
            host.report(Report::SentReset);
            stream.client_gone(error);
            error.code()
        }
        Cut::Upstream(error) => {
            tell_reset(&**host, &error);
            let reason = match error {
                // To a codec of HTTP/1 a body that is cut is a broken message.
                StreamError::Truncated | StreamError::Reset(_) if *version < Version::HTTP_2 => {
                    host.report(Report::ProtocolError);
                    ResetReason::ProtocolError
                }
                _ => ResetReason::of_stream(&error, *version),
            };
            stream.info.details = Some(reason.after_response().into());
            stream.info.flags.set(reason.flag());
            error.code()
        }
        Cut::Time(interrupt) => {
            host.report(Report::SentReset);
            let (details, flag, report) = match interrupt {
                Interrupt::Idle => ("stream_idle_timeout", ResponseFlag::StreamIdleTimeout, None),
                Interrupt::MaxDuration => (
                    "upstream_max_stream_duration_reached",
                    ResponseFlag::UpstreamMaxStreamDurationReached,
                    Some(Report::MaxDuration),
                ),
                Interrupt::PerTry | Interrupt::PerTryIdle => (
                    "upstream_per_try_idle_timeout",
                    ResponseFlag::UpstreamRequestTimeout,
                    Some(Report::PerTryIdleTimeout),
                ),
                Interrupt::Response | Interrupt::Client(_) => {
                    ("response_timeout", ResponseFlag::UpstreamRequestTimeout, Some(Report::Timeout))
                }
            };
            if let Some(report) = report {
                host.report(report);
            }
            stream.info.details = Some(details.into());
            stream.info.flags.set(flag);
            ErrorCode::Cancel
        }
    };
    download.sink.reset(code);
    if let Some(upload) = upload {
        upload.sink.reset(code);
    }
}
