//! What needs no socket, or sees inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;

/// What a scripted half does next.
#[derive(Debug, Clone)]
enum Step {
    Chunk(&'static str),
    Error(StreamError),
    End,
    Pending,
}

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    stopped: Vec<ErrorCode>,
    sent: Vec<u8>,
    ended: bool,
    /// Its end was left to the close.
    at_close: bool,
    resets: Vec<ErrorCode>,
    /// What `poll_stopped` and `poll_send` say.
    gone: Option<StreamError>,
    flushes: usize,
    /// `poll_send` takes the bytes and is pending.
    holds: bool,
    /// `poll_send` takes nothing.
    blocked: bool,
    /// `poll_send` takes from the task's budget, as a socket does.
    costs: bool,
}

#[derive(Clone, Default)]
struct Half(Arc<Mutex<Script>>);

impl Half {
    fn source(steps: impl IntoIterator<Item = Step>) -> Self {
        let half = Self::default();
        half.0.lock().unwrap().steps.extend(steps);
        half
    }
}

impl ByteSource for Half {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        match self.0.lock().unwrap().steps.pop_front() {
            Some(Step::Chunk(text)) => Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes())))),
            Some(Step::Error(error)) => Poll::Ready(Some(Err(error))),
            Some(Step::End) => Poll::Ready(None),
            Some(Step::Pending) | None => Poll::Pending,
        }
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.lock().unwrap().stopped.push(code);
    }
}

impl ByteSink for Half {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        let mut script = self.0.lock().unwrap();
        if script.costs {
            std::task::ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        }
        if let Some(error) = script.gone {
            return Poll::Ready(Err(error));
        }
        if script.blocked {
            return Poll::Pending;
        }
        script.sent.extend_from_slice(data);
        data.clear();
        if script.holds {
            return Poll::Pending;
        }
        script.ended |= end;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.0.lock().unwrap().flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, _cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.lock().unwrap().gone.map_or(Poll::Pending, Poll::Ready)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.0.lock().unwrap().resets.push(code);
    }

    fn end_at_close(&mut self) -> bool {
        self.0.lock().unwrap().at_close = true;
        true
    }
}

struct Fakes {
    down: (Half, Half),
    up: (Half, Half),
    relay: RelayFuture,
}

impl Fakes {
    fn new(down: impl IntoIterator<Item = Step>, up: impl IntoIterator<Item = Step>) -> Self {
        Self::with(down, up, RelayOptions::default())
    }

    fn with(down: impl IntoIterator<Item = Step>, up: impl IntoIterator<Item = Step>, options: RelayOptions) -> Self {
        let (down, up) = ((Half::source(down), Half::default()), (Half::source(up), Half::default()));
        let side = |(source, sink): &(Half, Half)| Side::new(Box::new(source.clone()), Box::new(sink.clone()));
        let relay = relay(side(&down), side(&up), options);
        Self { down, up, relay }
    }

    async fn poll(&mut self) -> Poll<Summary> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut self.relay).poll(cx))).await
    }
}

fn resets(half: &Half) -> Vec<ErrorCode> {
    half.0.lock().unwrap().resets.clone()
}

#[tokio::test]
async fn a_reset_keeps_its_code() {
    let error = StreamError::Reset(ErrorCode::EnhanceYourCalm);
    let mut fakes = Fakes::new([Step::Chunk("abc"), Step::Error(error)], []);
    let Poll::Ready(summary) = fakes.poll().await else { panic!("pending") };
    assert_eq!(summary.cause, Cause::Reset { by: Peer::Downstream, error });
    assert_eq!(summary.down_to_up, DirectionSummary { bytes: 3, end: DirectionEnd::Reset(error) });
    assert_eq!(summary.up_to_down.end, DirectionEnd::Cut);
    assert_eq!(fakes.up.1.0.lock().unwrap().sent, b"abc");
    assert!(!fakes.up.1.0.lock().unwrap().ended);
    assert_eq!(resets(&fakes.up.1), [ErrorCode::EnhanceYourCalm]);
    assert_eq!(resets(&fakes.down.1), [ErrorCode::EnhanceYourCalm]);
    assert_eq!(fakes.up.0.0.lock().unwrap().stopped, [ErrorCode::EnhanceYourCalm]);
}

#[tokio::test]
async fn a_truncated_source_is_no_end() {
    let mut fakes = Fakes::new([Step::Chunk("abc"), Step::Error(StreamError::Truncated)], []);
    let Poll::Ready(_) = fakes.poll().await else { panic!("pending") };
    assert!(!fakes.up.1.0.lock().unwrap().ended);
    assert_eq!(resets(&fakes.up.1), [ErrorCode::Connect]);
}

/// RFC 9114 section 4.1: a server that needs no more of a request may say so and still answer.
#[tokio::test]
async fn a_peer_that_needs_no_more_ends_its_direction_only() {
    let mut fakes = Fakes::new([], [Step::Chunk("answer"), Step::Pending, Step::End]);
    fakes.up.1.0.lock().unwrap().gone = Some(StreamError::Stopped(ErrorCode::NoError));
    assert!(fakes.poll().await.is_pending());
    assert_eq!(fakes.down.0.0.lock().unwrap().stopped, [ErrorCode::NoError]);
    let Poll::Ready(summary) = fakes.poll().await else { panic!("pending") };
    assert_eq!(summary.cause, Cause::Ended);
    assert_eq!(summary.down_to_up.end, DirectionEnd::Stopped(StreamError::Stopped(ErrorCode::NoError)));
    assert_eq!(summary.up_to_down, DirectionSummary { bytes: 6, end: DirectionEnd::End });
    assert!(fakes.down.1.0.lock().unwrap().ended);
    assert_eq!(resets(&fakes.down.1), []);
}

/// RFC 9114 section 4.4: a client that aborts reading ends the tunnel, whatever its code.
#[tokio::test]
async fn a_client_that_reads_no_more_ends_both_directions() {
    for code in [ErrorCode::NoError, ErrorCode::Cancel] {
        let mut fakes = Fakes::new([Step::Chunk("last"), Step::Pending], []);
        fakes.down.1.0.lock().unwrap().gone = Some(StreamError::Stopped(code));
        let Poll::Ready(summary) = fakes.poll().await else { panic!("pending") };
        assert_eq!(summary.cause, Cause::Reset { by: Peer::Downstream, error: StreamError::Stopped(code) });
        assert_eq!(fakes.up.1.0.lock().unwrap().sent, b"last");
        assert!(!fakes.up.1.0.lock().unwrap().ended);
        assert_eq!(resets(&fakes.up.1), [code]);
    }
}

/// What a failed peer had already sent still reaches the other one, its end included if that came; a reset does not
/// overtake it.
#[tokio::test(start_paused = true)]
async fn a_stopped_sink_lets_the_other_direction_run_dry() {
    let error = StreamError::Stopped(ErrorCode::Cancel);
    let mut fakes = Fakes::new([], [Step::Pending, Step::Chunk("tail"), Step::End]);
    fakes.up.1.0.lock().unwrap().gone = Some(error);
    let start = Instant::now();
    assert!(fakes.poll().await.is_pending());
    assert_eq!(resets(&fakes.down.1), []);
    let summary = (&mut fakes.relay).await;
    assert!(start.elapsed() >= LINGER);
    assert_eq!(resets(&fakes.down.1), [ErrorCode::Cancel]);
    assert_eq!(summary.cause, Cause::Reset { by: Peer::Upstream, error });
    assert_eq!(summary.up_to_down, DirectionSummary { bytes: 4, end: DirectionEnd::End });
    assert_eq!(fakes.down.1.0.lock().unwrap().sent, b"tail");
}

/// The second end is the last thing that happens here: the close behind it is one, too.
#[tokio::test]
async fn the_last_end_is_left_to_the_close() {
    let mut fakes = Fakes::new([Step::Chunk("ask"), Step::End], [Step::Pending, Step::Chunk("answer"), Step::End]);
    assert!(fakes.poll().await.is_pending());
    assert!(fakes.up.1.0.lock().unwrap().ended);
    let Poll::Ready(summary) = fakes.poll().await else { panic!("pending") };
    assert_eq!((summary.cause, summary.up_to_down.end), (Cause::Ended, DirectionEnd::End));
    let down = fakes.down.1.0.lock().unwrap();
    assert_eq!((&down.sent[..], down.at_close, down.ended, down.resets.len()), (&b"answer"[..], true, false, 0));
}

/// As long as the relay goes on after both ends, to keep a reset from overtaking them, the second is sent.
#[tokio::test(start_paused = true)]
async fn an_end_behind_which_the_relay_goes_on_is_sent() {
    let mut fakes = Fakes::new([Step::End], [Step::Chunk("tail"), Step::End]);
    fakes.down.1.0.lock().unwrap().blocked = true;
    assert!(fakes.poll().await.is_pending());
    fakes.up.1.0.lock().unwrap().gone = Some(StreamError::Stopped(ErrorCode::Cancel));
    assert!(fakes.poll().await.is_pending());
    fakes.down.1.0.lock().unwrap().blocked = false;
    assert!(fakes.poll().await.is_pending());
    {
        let down = fakes.down.1.0.lock().unwrap();
        assert_eq!((&down.sent[..], down.ended, down.at_close), (&b"tail"[..], true, false));
    }
    assert!(matches!((&mut fakes.relay).await.cause, Cause::Reset { by: Peer::Upstream, .. }));
}

/// An orderly shutdown does not wait for a reader of a tunnel that is broken already.
/// A timer that is asked by a task without budget says nothing and tells nobody.
#[tokio::test(start_paused = true)]
async fn timeouts_hold_for_a_task_that_used_up_its_budget() {
    for chunks in [1, 127, 128, 129, 300] {
        let options = RelayOptions { idle_timeout: Some(Duration::from_secs(10)), ..RelayOptions::default() };
        let Fakes { relay, down, up } = Fakes::with(vec![Step::Chunk("x"); chunks], [], options);
        up.1.0.lock().unwrap().costs = true;
        let relay = tokio::time::timeout(Duration::from_secs(3600), tokio::spawn(relay)).await;
        assert_eq!(relay.expect("it ends").unwrap().cause, Cause::IdleTimeout, "{chunks}");
        assert_eq!(up.1.0.lock().unwrap().sent.len(), chunks);
        drop(down);
    }
}

/// A timer that was somebody else's may be due at any time.
#[tokio::test(start_paused = true)]
async fn a_timer_that_goes_on_to_serve_serves_the_deadlines_of_the_relay() {
    let start = Instant::now();
    for due in [0, 1, 10, 60] {
        for (idle, max) in [(Some(10), None), (None, Some(10)), (Some(10), Some(20)), (None, None)] {
            let before = start.elapsed();
            let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            let (idle_timeout, max_duration) = (seconds(idle), seconds(max));
            let options = RelayOptions { idle_timeout, max_duration, ..RelayOptions::default() };
            let timer = Box::pin(tokio::time::sleep(Duration::from_secs(due)));
            let served = Relay::with_timer(&options, Some(timer));
            let Fakes { mut relay, down, up } = Fakes::with([], [], options);
            relay.relay = served;
            let relayed = tokio::time::timeout(Duration::from_secs(3600), relay).await;
            let over = start.elapsed() - before;
            let expected = if (idle, max) == (None, None) { 3600 } else { 10 };
            assert_eq!((relayed.is_ok(), over.as_secs()), (expected == 10, expected), "{due} {idle:?} {max:?}");
            drop((down, up));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_relay_that_lingers() {
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let closing: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async { drop(closed.await) });
    let options = RelayOptions { closing: Some(closing), ..RelayOptions::default() };
    let mut fakes = Fakes::with([], [Step::Chunk("tail")], options);
    fakes.up.1.0.lock().unwrap().gone = Some(StreamError::Stopped(ErrorCode::Cancel));
    fakes.down.1.0.lock().unwrap().blocked = true;
    assert!(tokio::time::timeout(LINGER * 10, &mut fakes.relay).await.is_err());
    close.send(()).unwrap();
    let summary = tokio::time::timeout(LINGER * 2, &mut fakes.relay).await.expect("it ends");
    assert!(matches!(summary.cause, Cause::Reset { by: Peer::Upstream, .. }), "{summary:?}");
    assert_eq!(resets(&fakes.down.1), [ErrorCode::Cancel]);
}

/// After a reset was seen by a writer, what a reader takes for an end is none.
#[tokio::test]
async fn a_reset_sink_makes_no_end_of_its_source() {
    let error = StreamError::Reset(ErrorCode::Cancel);
    let mut fakes = Fakes::new([], [Step::Pending, Step::Chunk("tail"), Step::End]);
    fakes.up.1.0.lock().unwrap().gone = Some(error);
    let Poll::Ready(summary) = fakes.poll().await else { panic!("pending") };
    assert_eq!(fakes.down.1.0.lock().unwrap().sent, b"tail");
    assert!(!fakes.down.1.0.lock().unwrap().ended);
    assert!(matches!(summary.up_to_down.end, DirectionEnd::Reset(_)), "{summary:?}");
    assert_eq!(resets(&fakes.down.1), [ErrorCode::Cancel]);
}

#[tokio::test]
async fn flushes_once_the_source_is_dry() {
    let mut fakes = Fakes::new([Step::Chunk("a"), Step::Chunk("b")], []);
    assert!(fakes.poll().await.is_pending());
    assert_eq!(fakes.up.1.0.lock().unwrap().flushes, 1);
    assert!(fakes.poll().await.is_pending());
    assert_eq!(fakes.up.1.0.lock().unwrap().flushes, 1);
}

/// What a sink took and holds leaves by the flush alone: nothing is left to send again.
#[tokio::test]
async fn flushes_a_sink_that_holds_what_it_took() {
    let mut fakes = Fakes::new([Step::Chunk("a"), Step::Pending], []);
    fakes.up.1.0.lock().unwrap().holds = true;
    assert!(fakes.poll().await.is_pending());
    assert!(fakes.poll().await.is_pending());
    let script = fakes.up.1.0.lock().unwrap();
    assert_eq!((&script.sent[..], script.flushes), (&b"a"[..], 1));
}

/// What an idle tunnel pays; tokio's task, two sockets and the boxes of four halves come on top.
#[test]
fn sizes() {
    assert!(size_of::<RelayFuture>() <= 336, "{}", size_of::<RelayFuture>());
    assert!(size_of::<crate::TcpSource>() <= 24, "{}", size_of::<crate::TcpSource>());
    assert!(size_of::<crate::TcpSink>() <= 24, "{}", size_of::<crate::TcpSink>());
}

#[test]
fn pipes_are_used_again_and_bounded() {
    let mut pipes: Vec<_> = std::iter::from_fn(super::pipe::Pipe::take).take(16).collect();
    if pipes.is_empty() {
        return; // A kernel that refuses pipes: the copying lane is all there is.
    }
    let before = super::pipe::Pipe::live();
    assert!(before >= pipes.len());
    let mut dirty = pipes.pop().unwrap();
    dirty.len = 1;
    dirty.give_back();
    assert_eq!(super::pipe::Pipe::live(), before - 1);
    pipes.into_iter().for_each(super::pipe::Pipe::give_back);
    assert!(super::pipe::Pipe::live() <= 16);
}
