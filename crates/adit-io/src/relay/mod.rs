//! [`relay`]: bytes, half-closes and resets from one endpoint to another, both ways, in one future.

mod lane;
mod pipe;
mod plain;

pub use pipe::{Chunk, Spliced};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_http::{ErrorCode, StreamError};
use tokio::time::{Instant, Sleep};

use crate::moment::{Moment, Span};
use crate::{ByteSink, ByteSource, Side, SideMut};
use lane::{Failure, Lane, Wait};

/// Held per direction at most, unless the options say otherwise: 1 MiB (Envoy's `per_connection_buffer_limit_bytes`).
pub const DEFAULT_BUFFER_LIMIT: usize = 1 << 20;

/// How long bytes at hand may still take to leave once the relay is over: 1 s.
pub const LINGER: Duration = Duration::from_secs(1);

/// Both endpoints of a relay, and what its owner says at a poll.
struct Sides<'a> {
    down: SideMut<'a>,
    up: SideMut<'a>,
    observer: Option<&'a dyn RelayObserver>,
    /// An orderly shutdown is asked for.
    close: bool,
}

impl Sides<'_> {
    /// Where a direction begins and where it ends.
    fn ends(&mut self, direction: Direction) -> (&mut dyn ByteSource, &mut dyn ByteSink) {
        match direction {
            Direction::DownToUp => (&mut *self.down.source, &mut *self.up.sink),
            Direction::UpToDown => (&mut *self.up.source, &mut *self.down.sink),
        }
    }
}

/// The two peers of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The one that connected to us.
    Downstream,
    /// The one that we connected to.
    Upstream,
}

/// The two directions of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the downstream to the upstream peer.
    DownToUp,
    /// From the upstream to the downstream peer.
    UpToDown,
}

/// Told about a relay while it lives. Called on the path of a byte: count, do not compute.
pub trait RelayObserver: Send + Sync {
    /// `bytes` more were taken by the sink of this direction.
    fn on_bytes(&self, direction: Direction, bytes: u64);

    /// The source of this direction is read no more, because its sink takes nothing now
    /// (`downstream_flow_control_paused_reading_total` and its kin).
    fn on_paused(&self, direction: Direction) {
        let _ = direction;
    }

    /// The source of this direction is read again.
    fn on_resumed(&self, direction: Direction) {
        let _ = direction;
    }
}

/// What peers see when a timeout ends the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutAction {
    /// An end in both directions (Envoy's TCP proxy closes so); a reset where bytes could not be delivered.
    #[default]
    End,
    /// A reset in both directions.
    Reset,
}

/// How to relay.
pub struct RelayOptions {
    /// Ends the relay after this long without a byte in either direction (`idle_timeout`).
    pub idle_timeout: Option<Duration>,
    /// Ends the relay this long after it was made (`max_downstream_connection_duration`, `max_stream_duration`).
    pub max_duration: Option<Duration>,
    /// What the peers see at either timeout.
    pub timeout_action: TimeoutAction,
    /// Bytes held per direction at most, but for the frame in hand of a framed source
    /// (`per_connection_buffer_limit_bytes`); at least 1.
    pub buffer_limit: usize,
    /// Told about bytes and pauses as they happen.
    pub observer: Option<Arc<dyn RelayObserver>>,
    /// Once ready, the relay delivers what it holds and gives both peers an end: an orderly shutdown.
    pub closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            idle_timeout: None,
            max_duration: None,
            timeout_action: TimeoutAction::End,
            buffer_limit: DEFAULT_BUFFER_LIMIT,
            observer: None,
            closing: None,
        }
    }
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions")
            .field("idle_timeout", &self.idle_timeout)
            .field("max_duration", &self.max_duration)
            .field("timeout_action", &self.timeout_action)
            .field("buffer_limit", &self.buffer_limit)
            .finish_non_exhaustive()
    }
}

/// How a relay went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The direction from the downstream to the upstream peer.
    pub down_to_up: DirectionSummary,
    /// The direction from the upstream to the downstream peer.
    pub up_to_down: DirectionSummary,
    /// Why it is over.
    pub cause: Cause,
}

/// How one direction of a relay went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectionSummary {
    /// Bytes that its sink took.
    pub bytes: u64,
    /// How it ended.
    pub end: DirectionEnd,
}

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectionEnd {
    /// The source ended, and the sink was given every byte and the end.
    End,
    /// The source failed: its peer reset it, or was lost.
    Reset(StreamError),
    /// The sink failed: its peer reads no more, or was lost.
    Stopped(StreamError),
    /// We gave the sink an end at a timeout or an orderly shutdown, after every byte that was held.
    Closed,
    /// It was open when the relay ended for another reason, and its sink was reset.
    Cut,
}

/// Why a relay is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Both directions ended on their own.
    Ended,
    /// No byte moved for [`RelayOptions::idle_timeout`].
    IdleTimeout,
    /// [`RelayOptions::max_duration`] is over.
    MaxDuration,
    /// One peer reset its stream or was lost; the other was reset with the error's code.
    Reset {
        /// Whose stream failed.
        by: Peer,
        /// How.
        error: StreamError,
    },
    /// [`RelayOptions::closing`] became ready.
    Closing,
}

/// Relays between two peers until both directions are over. Dropped before, both peers are reset.
///
/// Each direction ends on its own: an end at its source becomes an end at its sink after the last byte. A reset at either
/// side becomes a reset with its code at the other and ends both directions; bytes of the failed peer that are at hand
/// are delivered first, for at most [`LINGER`]. A peer that only reads no more is heard out as long as it has something
/// to say, and where that includes its end, the other side's reset follows [`LINGER`] later so as not to overtake it. An
/// upstream that says that it needs nothing more ([`StreamError::Stopped`] with [`ErrorCode::NoError`]) ends its own direction
/// only.
pub fn relay(downstream: Side, upstream: Side, options: RelayOptions) -> RelayFuture {
    let relay = Relay::new(&options);
    let RelayOptions { observer, closing, .. } = options;
    RelayFuture { relay, sides: Some((downstream, upstream)), observer, closing }
}

/// The future of [`relay`]. Gives its sides up as it finishes.
#[must_use = "futures do nothing unless polled"]
pub struct RelayFuture {
    relay: Relay,
    sides: Option<(Side, Side)>,
    observer: Option<Arc<dyn RelayObserver>>,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl RelayFuture {
    /// Bytes taken so far by the sinks: from down to up, from up to down.
    pub fn bytes(&self) -> (u64, u64) {
        self.relay.bytes()
    }

    /// Whether each direction is over: from down to up, from up to down.
    pub fn ended(&self) -> (bool, bool) {
        self.relay.ended()
    }
}

impl Future for RelayFuture {
    type Output = Summary;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Summary> {
        let this = &mut *self;
        let close = this.relay.poll_closing(cx, &mut this.closing);
        let observer = this.observer.as_deref();
        let summary = match &mut this.sides {
            Some((down, up)) => {
                std::task::ready!(this.relay.poll_relay(cx, down.as_mut(), up.as_mut(), observer, close))
            }
            None => this.relay.summary(Cause::Ended),
        };
        this.sides = None;
        this.closing = None;
        Poll::Ready(summary)
    }
}

/// What a relay does now.
///
/// ```text
/// Running -- a sink failed ----------------> Lingering -- its source dry ---------------> reset both
///    |                                           +-- its source ended --> Tail -- LINGER --> reset both
///    |-- a source failed ----------------------------------------------------------> reset both
///    |-- idle, too long, asked to close ---> Finishing -- held bytes and ends out --> over
///    +-- both directions over -----------------------------------------------------> over
/// ```
#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    /// The sink towards this peer failed; what its source still has at hand goes to the other side.
    Lingering(Peer),
    /// As `Lingering`, and the other side was given the end. A reset would overtake its last bytes, so it waits.
    Tail(Peer),
    /// We end both directions after the bytes that are held.
    Finishing,
}

/// The state of a relay without its sides, for owners that need a half back afterwards (trailers).
///
/// Poll it with the same sides each time, until it is ready; then drop the sinks at once: what failed is reset by that, and the
/// last end may be left to it ([`ByteSink::end_at_close`]).
pub struct Relay {
    lanes: [Lane; 2],
    idle_timeout: Option<Span>,
    /// When a byte last moved; read only with an idle timeout. As the clock gave it, since it is set for each message.
    last_activity: Option<Instant>,
    /// End of [`RelayOptions::max_duration`], or of [`LINGER`] once the relay is ending.
    deadline: Option<Moment>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The address of the data of the waker that the timer has; 0 where it may have none. The timer holds that waker until it
    /// wakes it, so that the address is not another's before.
    timer_waker: usize,
    /// Why it ends, once it does.
    cause: Option<Box<Cause>>,
    buffer_limit: u32,
    phase: Phase,
    started: bool,
    /// A byte moved since `last_activity` was set.
    moved: bool,
    timeout_action: TimeoutAction,
}

impl Relay {
    /// A relay that has moved nothing yet. Who observes it and when it is to close is told at each poll.
    pub fn new(options: &RelayOptions) -> Self {
        Self::with_timer(options, None)
    }

    /// As [`Relay::new`], with a timer that goes on to serve. Where it is due before the first deadline of `options`, it is left as
    /// it is until it fires.
    pub fn with_timer(options: &RelayOptions, timer: Option<Pin<Box<Sleep>>>) -> Self {
        Self {
            lanes: [Lane::default(), Lane::default()],
            idle_timeout: options.idle_timeout.map(Span::from),
            last_activity: None,
            deadline: options.max_duration.map(|max| Moment::now().after(max.into())),
            timer,
            timer_waker: 0,
            cause: None,
            buffer_limit: u32::try_from(options.buffer_limit.max(1)).unwrap_or(u32::MAX),
            phase: Phase::Running,
            started: false,
            moved: false,
            timeout_action: options.timeout_action,
        }
    }

    /// Bytes taken so far by the sinks: from down to up, from up to down.
    pub fn bytes(&self) -> (u64, u64) {
        let [down, up] = &self.lanes;
        (down.bytes, up.bytes)
    }

    /// Whether each direction is over: from down to up, from up to down. Looked at after each poll, it tells which peer
    /// ended first.
    pub fn ended(&self) -> (bool, bool) {
        let [down, up] = &self.lanes;
        (down.is_done(), up.is_done())
    }

    /// Whether the client's connection is over in both directions while the upstream has yet to take what came from it
    /// (`upstream_flush_active`).
    pub fn flushes_upstream(&self) -> bool {
        let [down, up] = &self.lanes;
        up.is_ended() && down.is_source_over() && !down.is_done()
    }

    /// Whether an orderly shutdown is asked for, which the relay still heeds; true once, and `closing` is gone then.
    pub fn poll_closing(
        &self,
        cx: &mut Context<'_>,
        closing: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ) -> bool {
        let heeded = matches!(self.phase, Phase::Running | Phase::Lingering(_));
        let asked = heeded && closing.as_mut().is_some_and(|closing| closing.as_mut().poll(cx).is_ready());
        if asked {
            *closing = None;
        }
        asked
    }

    /// Moves what can be moved. Ready once the relay is over; sinks are then ended, but for their close, or reset, sources
    /// stopped. `close` asks for an orderly shutdown, as [`RelayOptions::closing`] does.
    pub fn poll_relay<'a>(
        &mut self,
        cx: &mut Context<'_>,
        down: SideMut<'a>,
        up: SideMut<'a>,
        observer: Option<&'a dyn RelayObserver>,
        close: bool,
    ) -> Poll<Summary> {
        let mut sides = Sides { down, up, observer, close };
        if !self.started {
            self.start();
        }
        loop {
            let outcome = match self.phase {
                Phase::Running => self.poll_running(cx, &mut sides),
                Phase::Lingering(by) => self.poll_lingering(cx, &mut sides, by),
                Phase::Tail(by) => self.poll_tail(cx, &mut sides, by),
                Phase::Finishing => self.poll_finishing(cx, &mut sides),
            };
            match outcome {
                Poll::Ready(Turn::Again) => {}
                Poll::Ready(Turn::Over(cause)) => return Poll::Ready(self.finish(cause, sides)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn start(&mut self) {
        self.started = true;
        self.last_activity = self.idle_timeout.map(|_| Instant::now());
        let due = self.timer.as_ref().map(|timer| timer.deadline());
        if due.zip(self.first()).is_none_or(|(due, first)| due > first.instant()) {
            self.arm();
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Poll<Turn> {
        if sides.close {
            return Poll::Ready(self.start_finishing(Cause::Closing, LINGER));
        }
        let first = self.poll_lane(Direction::DownToUp, cx, sides);
        if let Some(turn) = self.settle(Direction::DownToUp, first, sides) {
            return Poll::Ready(turn);
        }
        let second = self.poll_lane(Direction::UpToDown, cx, sides);
        if let Some(turn) = self.settle(Direction::UpToDown, second, sides) {
            return Poll::Ready(turn);
        }
        if self.lanes.iter().all(Lane::is_done) {
            return Poll::Ready(Turn::Over(Cause::Ended));
        }
        for direction in [Direction::DownToUp, Direction::UpToDown] {
            if let Poll::Ready(error) = self.poll_watch(direction, cx, sides)
                && let Some(turn) = self.settle(direction, Poll::Ready(Err(Failure::Sink(error))), sides)
            {
                return Poll::Ready(turn);
            }
        }
        if self.lanes.iter().all(Lane::is_done) {
            return Poll::Ready(Turn::Over(Cause::Ended));
        }
        self.poll_timers(cx).map(|cause| self.time_out(cause))
    }

    fn poll_lane(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_>,
    ) -> Poll<Result<(), Failure>> {
        let observer = sides.observer;
        let (source, sink) = sides.ends(direction);
        // Only here is the end of both directions the end of the relay, and its owner's drop next.
        let last = matches!(self.phase, Phase::Running) && self.lanes[1 - direction as usize].is_ended();
        let lane = &mut self.lanes[direction as usize];
        if lane.is_done() {
            return Poll::Ready(Ok(()));
        }
        let (bytes, paused) = (lane.bytes, lane.is_paused());
        let result = lane.poll(cx, source, sink, self.buffer_limit as usize, last);
        self.moved |= lane.take_active();
        if let Some(observer) = observer {
            if lane.bytes != bytes {
                observer.on_bytes(direction, lane.bytes - bytes);
            }
            match (paused, lane.is_paused()) {
                (false, true) => observer.on_paused(direction),
                (true, false) => observer.on_resumed(direction),
                _ => {}
            }
        }
        result
    }

    /// Whether the peer at the sink of `direction` is gone, where nothing else would tell.
    ///
    /// A TCP peer is watched by reading from it; only while that is not done, because it ended or is held back, by the
    /// socket's error event.
    fn poll_watch(&mut self, direction: Direction, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Poll<StreamError> {
        let (to, from) = match direction {
            Direction::DownToUp => (&self.lanes[0], &self.lanes[1]),
            Direction::UpToDown => (&self.lanes[1], &self.lanes[0]),
        };
        let (_, sink) = sides.ends(direction);
        let source_rests = from.is_paused() || from.is_source_over();
        let wanted = if to.is_done() { from.is_paused() } else { source_rests || sink.as_tcp().is_none() };
        if wanted { sink.poll_stopped(cx) } else { Poll::Pending }
    }

    /// Takes note of a failure of a lane.
    fn settle(
        &mut self,
        direction: Direction,
        result: Poll<Result<(), Failure>>,
        sides: &mut Sides<'_>,
    ) -> Option<Turn> {
        let Poll::Ready(Err(failure)) = result else {
            return None;
        };
        let (from, to) = match direction {
            Direction::DownToUp => (Peer::Downstream, Peer::Upstream),
            Direction::UpToDown => (Peer::Upstream, Peer::Downstream),
        };
        let lane = &mut self.lanes[direction as usize];
        match failure {
            Failure::Source(error) => {
                lane.finish(DirectionEnd::Reset(error));
                Some(Turn::Over(Cause::Reset { by: from, error }))
            }
            Failure::Sink(error) => {
                if !lane.is_done() {
                    lane.finish(DirectionEnd::Stopped(error));
                }
                // Not a client: one that aborts reading ends its tunnel with any code (RFC 9114 section 4.4).
                if error == StreamError::Stopped(ErrorCode::NoError) && to == Peer::Upstream {
                    sides.ends(direction).0.stop(ErrorCode::NoError);
                    return None;
                }
                // Linux answers EPIPE, which is `Stopped`, where the peer's FIN came before its RST: then an end that is
                // read now is that FIN. Else it is only how a socket reads once its error was taken.
                let back = &mut self.lanes[1 - direction as usize];
                self.phase = Phase::Lingering(to);
                self.cause = Some(Box::new(Cause::Reset { by: to, error }));
                if !matches!(error, StreamError::Stopped(_)) {
                    back.withhold_end();
                    self.deadline = Some(Moment::now().after(LINGER.into()));
                    self.arm();
                }
                Some(Turn::Again)
            }
        }
    }

    fn poll_lingering(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>, by: Peer) -> Poll<Turn> {
        let over = Poll::Ready(Turn::Over(self.cause()));
        if sides.close {
            let linger = Moment::now().after(LINGER.into());
            self.deadline = Some(self.deadline.map_or(linger, |deadline| deadline.min(linger)));
            self.arm();
        }
        let direction = match by {
            Peer::Downstream => Direction::DownToUp,
            Peer::Upstream => Direction::UpToDown,
        };
        match self.poll_lane(direction, cx, sides) {
            Poll::Ready(Ok(())) if self.lanes[direction as usize].is_ended() => {
                self.phase = Phase::Tail(by);
                self.deadline = Some(Moment::now().after(LINGER.into()));
                self.arm();
                return Poll::Ready(Turn::Again);
            }
            Poll::Ready(Ok(())) => return over,
            Poll::Ready(Err(Failure::Source(error))) => {
                self.lanes[direction as usize].finish(DirectionEnd::Reset(error));
                return over;
            }
            Poll::Ready(Err(Failure::Sink(error))) => {
                self.lanes[direction as usize].finish(DirectionEnd::Stopped(error));
                return over;
            }
            Poll::Pending => {}
        }
        let dry = self.lanes[direction as usize].wait() == Wait::Source;
        // Without budget a source says pending although it may have bytes.
        if dry && tokio::task::coop::has_budget_remaining() {
            return over;
        }
        // What is left is the other side's to take, in the time that any reader has; after a reset, in LINGER.
        if self.poll_timers(cx).is_ready() { over } else { Poll::Pending }
    }

    fn poll_tail(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>, by: Peer) -> Poll<Turn> {
        let sink = match by {
            Peer::Downstream => &mut *sides.up.sink,
            Peer::Upstream => &mut *sides.down.sink,
        };
        if sink.poll_stopped(cx).is_ready() || self.poll_deadline(cx) {
            return Poll::Ready(Turn::Over(self.cause()));
        }
        Poll::Pending
    }

    fn poll_finishing(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_>) -> Poll<Turn> {
        let over = Poll::Ready(Turn::Over(self.cause()));
        for direction in [Direction::DownToUp, Direction::UpToDown] {
            match self.poll_lane(direction, cx, sides) {
                Poll::Ready(Err(Failure::Source(error))) => {
                    self.lanes[direction as usize].finish(DirectionEnd::Reset(error));
                }
                Poll::Ready(Err(Failure::Sink(error))) => {
                    self.lanes[direction as usize].finish(DirectionEnd::Stopped(error));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if self.lanes.iter().all(Lane::is_done) || self.poll_deadline(cx) { over } else { Poll::Pending }
    }

    fn start_finishing(&mut self, cause: Cause, linger: Duration) -> Turn {
        for lane in &mut self.lanes {
            lane.close();
        }
        self.phase = Phase::Finishing;
        self.cause = Some(Box::new(cause));
        self.deadline = Some(Moment::now().after(linger.into()));
        self.arm();
        Turn::Again
    }

    /// Which timeout is over.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        let Some(timer) = &self.timer else { return Poll::Pending };
        let now = Instant::now();
        // Asking is several times as dear as the clock. `poll_timer` never pends without having told whom to wake.
        let asked = self.timer_waker != 0 && self.timer_waker == cx.waker().data() as usize;
        let early = asked && now < timer.deadline();
        self.note_activity(now);
        if early {
            return Poll::Pending;
        }
        while let Some(timer) = &mut self.timer {
            if poll_timer(timer, cx).is_pending() {
                self.timer_waker = cx.waker().data() as usize;
                return Poll::Pending;
            }
            let now = Moment::now();
            if self.deadline.is_some_and(|at| at <= now) {
                return Poll::Ready(Cause::MaxDuration);
            }
            if self.idle_at().is_some_and(|at| at <= now) {
                return Poll::Ready(Cause::IdleTimeout);
            }
            self.arm();
        }
        Poll::Pending
    }

    fn time_out(&mut self, cause: Cause) -> Turn {
        match (self.timeout_action, cause) {
            (TimeoutAction::Reset, _) => Turn::Over(cause),
            // What was stuck for the whole idle time will not move in another second.
            (TimeoutAction::End, Cause::IdleTimeout) => self.start_finishing(cause, Duration::ZERO),
            (TimeoutAction::End, _) => self.start_finishing(cause, LINGER),
        }
    }

    /// Whether the time to linger is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.deadline.is_none_or(|at| at <= Moment::now()) {
                return true;
            }
            match &mut self.timer {
                Some(timer) => {
                    if poll_timer(timer, cx).is_pending() {
                        return false;
                    }
                    self.arm();
                }
                None => return true,
            }
        }
    }

    /// Takes note that bytes moved up to `now`, if they did.
    fn note_activity(&mut self, now: Instant) {
        if std::mem::take(&mut self.moved) && self.idle_timeout.is_some() {
            self.last_activity = Some(now);
        }
    }

    fn idle_at(&self) -> Option<Moment> {
        Some(Moment::from(self.last_activity?).after(self.idle_timeout?))
    }

    /// Why it ends, once that is known.
    fn cause(&self) -> Cause {
        self.cause.as_deref().copied().unwrap_or(Cause::Ended)
    }

    /// What comes first of the deadlines.
    fn first(&self) -> Option<Moment> {
        let idle = if matches!(self.phase, Phase::Running | Phase::Lingering(_)) { self.idle_at() } else { None };
        match (self.deadline, idle) {
            (Some(deadline), Some(idle)) => Some(deadline.min(idle)),
            (deadline, idle) => deadline.or(idle),
        }
    }

    /// Sets the one timer to whatever comes first.
    fn arm(&mut self) {
        if self.moved {
            self.note_activity(Instant::now());
        }
        self.timer_waker = 0;
        let Some(at) = self.first().map(Moment::instant) else {
            self.timer = None;
            return;
        };
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Leaves nothing open: sinks that were not given their end are reset, sources are stopped.
    fn finish(&mut self, cause: Cause, sides: Sides<'_>) -> Summary {
        let code = match cause {
            Cause::Reset { error, .. } => Some(error.code()),
            Cause::Ended => None,
            Cause::IdleTimeout | Cause::MaxDuration | Cause::Closing => {
                self.lanes.iter().any(|lane| !lane.is_done()).then_some(ErrorCode::Cancel)
            }
        };
        for lane in &mut self.lanes {
            if !lane.is_done() {
                lane.finish(DirectionEnd::Cut);
            }
        }
        let Sides { down, up, .. } = sides;
        if let Some(code) = code {
            down.sink.reset(code);
            up.sink.reset(code);
        }
        let code = code.unwrap_or(ErrorCode::NoError);
        let [to_up, to_down] = &self.lanes;
        if !to_up.is_ended() {
            down.source.stop(code);
        }
        if !to_down.is_ended() {
            up.source.stop(code);
        }
        self.timer = None;
        self.summary(cause)
    }

    fn summary(&self, cause: Cause) -> Summary {
        let [down_to_up, up_to_down] = &self.lanes;
        Summary { down_to_up: down_to_up.summary(), up_to_down: up_to_down.summary(), cause }
    }
}

/// Polls a timer outside the task's budget: without any left it would pend and not be told whom to wake.
fn poll_timer(timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    std::pin::pin!(tokio::task::coop::unconstrained(timer.as_mut())).poll(cx)
}

/// What follows from one turn of a phase.
enum Turn {
    /// The phase changed.
    Again,
    Over(Cause),
}

#[cfg(test)]
mod tests;
