//! Datagrams between a tunnel and whatever sends and receives them at this end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_http::{ErrorCode, StreamError};
use adit_io::LINGER;
use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::UdpTunnel;

/// Datagrams of each direction in one turn: then other tasks get theirs.
const PER_TURN: usize = 64;

/// The end of a tunnel that is no stream: a UDP socket, or a client of a UDP listener.
pub trait DatagramPort: Send {
    /// Sends a payload; pending when there is no room now. What is lost on the way is no error.
    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<()>>;

    /// Gives the next payload to `take`.
    fn poll_recv(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(&[u8])) -> Poll<io::Result<()>>;

    /// Called at the end of each turn, for what is to be done beside.
    fn tick(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }
}

/// When a relay ends by itself.
#[derive(Default)]
pub struct UdpRelayOptions {
    /// After this long without a datagram in either direction.
    pub idle_timeout: Option<Duration>,
    /// This long after it began.
    pub max_duration: Option<Duration>,
    /// Once this is ready, with an end.
    pub closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Why a relay is over.
#[derive(Debug)]
pub enum UdpCause {
    /// The peer ended its stream, and got our end.
    Ended,
    /// The stream failed, or the peer broke the protocol.
    Stream(StreamError),
    /// The port failed.
    Port(io::Error),
    /// Nothing moved for too long.
    IdleTimeout,
    /// It lasted too long.
    MaxDuration,
    /// The process ends.
    Closing,
}

/// Relays until either side is over: a UDP tunnel has no half-close. The stream has got an end or a reset then.
///
/// Where the peer of the stream does not keep up, the port is not read; where the port does not, the stream is not.
pub async fn relay_udp(tunnel: &mut UdpTunnel, port: &mut dyn DatagramPort, options: UdpRelayOptions) -> UdpCause {
    let mut relay = Relay::new(options);
    let cause = poll_fn(|cx| relay.poll(cx, tunnel, port)).await;
    let reset = match &cause {
        UdpCause::Ended | UdpCause::Closing => {
            let ended = tokio::time::timeout(LINGER, poll_fn(|cx| tunnel.poll_end(cx))).await;
            (!matches!(ended, Ok(Ok(())))).then_some(ErrorCode::Cancel)
        }
        UdpCause::Stream(StreamError::Protocol(_) | StreamError::TooLarge(_)) => Some(ErrorCode::Protocol),
        UdpCause::Stream(error) => Some(error.code()),
        UdpCause::Port(_) => Some(ErrorCode::Connect),
        UdpCause::IdleTimeout | UdpCause::MaxDuration => Some(ErrorCode::Cancel),
    };
    if let Some(code) = reset {
        tunnel.reset(code);
    }
    cause
}

struct Relay {
    options: UdpRelayOptions,
    started: Instant,
    moved: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// A payload that the port has no room for.
    held: Option<Bytes>,
}

impl Relay {
    fn new(options: UdpRelayOptions) -> Self {
        let now = Instant::now();
        Self { options, started: now, moved: now, timer: None, held: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, tunnel: &mut UdpTunnel, port: &mut dyn DatagramPort) -> Poll<UdpCause> {
        if let Some(closing) = &mut self.options.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(UdpCause::Closing);
        }
        let turn = self.poll_turn(cx, tunnel, port);
        port.tick(cx);
        match turn {
            Err(cause) => return Poll::Ready(cause),
            Ok(true) => cx.waker().wake_by_ref(),
            Ok(false) => {}
        }
        self.poll_time(cx)
    }

    /// Moves what there is, up to a limit; whether there may be more.
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        tunnel: &mut UdpTunnel,
        port: &mut dyn DatagramPort,
    ) -> Result<bool, UdpCause> {
        let mut moved = false;
        let mut more = false;
        for turn in 0..=PER_TURN {
            let up = self.poll_up(cx, tunnel, port)?;
            let down = self.poll_down(cx, tunnel, port)?;
            moved |= up || down;
            if !(up || down) {
                break;
            }
            more = turn == PER_TURN;
        }
        if moved {
            self.moved = Instant::now();
        }
        let full = !tunnel.has_room();
        match tunnel.poll_flush(cx) {
            Poll::Ready(Err(error)) => return Err(UdpCause::Stream(error)),
            // There is room again, and nobody else would look at the port.
            Poll::Ready(Ok(())) => more |= full,
            Poll::Pending => {}
        }
        if let Poll::Ready(error) = tunnel.poll_stopped(cx) {
            return Err(UdpCause::Stream(error));
        }
        Ok(more)
    }

    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        tunnel: &mut UdpTunnel,
        port: &mut dyn DatagramPort,
    ) -> Result<bool, UdpCause> {
        let payload = match self.held.take() {
            Some(payload) => payload,
            None => match tunnel.poll_recv(cx) {
                Poll::Ready(Some(Ok(payload))) => payload,
                Poll::Ready(Some(Err(error))) => return Err(UdpCause::Stream(error)),
                Poll::Ready(None) => return Err(UdpCause::Ended),
                Poll::Pending => return Ok(false),
            },
        };
        match port.poll_send(cx, &payload) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(UdpCause::Port(error)),
            Poll::Pending => {
                self.held = Some(payload);
                Ok(false)
            }
        }
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        tunnel: &mut UdpTunnel,
        port: &mut dyn DatagramPort,
    ) -> Result<bool, UdpCause> {
        if !tunnel.has_room() {
            return Ok(false);
        }
        match port.poll_recv(cx, &mut |payload| {
            // There was room just now.
            tunnel.push(payload);
        }) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(UdpCause::Port(error)),
            Poll::Pending => Ok(false),
        }
    }

    /// Ready when time is up. The timer is set late and never per datagram.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<UdpCause> {
        loop {
            let idle = self.options.idle_timeout.and_then(|limit| self.moved.checked_add(limit));
            let max = self.options.max_duration.and_then(|limit| self.started.checked_add(limit));
            let Some(next) = idle.into_iter().chain(max).min() else { return Poll::Pending };
            let now = Instant::now();
            if max.is_some_and(|at| at <= now) {
                return Poll::Ready(UdpCause::MaxDuration);
            }
            if idle.is_some_and(|at| at <= now) {
                return Poll::Ready(UdpCause::IdleTimeout);
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(next);
        }
    }
}
