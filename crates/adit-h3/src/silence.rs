//! A peer that answers nothing any more: it was killed, or its path is gone.
//!
//! QUIC itself gives a connection up after the idle timeout, which is minutes; whatever is sent meanwhile is lost. New
//! streams should go elsewhere long before, while those that live wait for the path to come back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Looks without an answer after which a peer is silent.
const LOOKS: u32 = 5;
/// Looks of these that found more sent than the one before: a lost packet is repeated, a last acknowledgement is not.
const REPEATS: u32 = 3;

/// Looks at what was sent and what came, so many times in `patience`.
pub(crate) struct Silence {
    every: Duration,
    timer: Pin<Box<Sleep>>,
    seen: Look,
    unanswered: u32,
    repeats: u32,
}

/// Packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl From<quinn::ConnectionStats> for Look {
    fn from(stats: quinn::ConnectionStats) -> Self {
        Self { sent: stats.udp_tx.datagrams, received: stats.udp_rx.datagrams }
    }
}

impl Silence {
    /// A peer is silent when nothing came for this long although it was to answer.
    pub(crate) fn new(patience: Duration) -> Self {
        let every = (patience / LOOKS).max(Duration::from_millis(1));
        let timer = Box::pin(tokio::time::sleep(every));
        Self { every, timer, seen: Look::default(), unanswered: 0, repeats: 0 }
    }

    /// Ready once the peer is silent.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, look: impl Fn() -> Look) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            self.timer.as_mut().reset(Instant::now() + self.every);
            if self.is_silent(look()) {
                return Poll::Ready(());
            }
        }
    }

    /// Takes one more look. Counts looks and not time: a process that was stopped has seen nothing.
    fn is_silent(&mut self, now: Look) -> bool {
        let before = std::mem::replace(&mut self.seen, now);
        if now.received != before.received {
            (self.unanswered, self.repeats) = (0, 0);
            return false;
        }
        if now.sent != before.sent {
            self.repeats += 1;
        }
        if self.repeats > 0 {
            self.unanswered += 1;
        }
        self.unanswered >= LOOKS && self.repeats >= REPEATS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(looks: &[(u64, u64)]) -> Option<usize> {
        let mut silence = Silence {
            every: Duration::from_secs(1),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            seen: Look::default(),
            unanswered: 0,
            repeats: 0,
        };
        looks.iter().position(|&(sent, received)| silence.is_silent(Look { sent, received }))
    }

    #[tokio::test]
    async fn who_repeats_without_an_answer_meets_silence() {
        assert_eq!(after(&[(1, 1), (2, 1), (3, 1), (3, 1), (4, 1), (4, 1), (5, 1)]), Some(5));
        assert_eq!(after(&[(1, 1), (9, 1), (9, 1), (9, 1), (9, 1), (10, 1), (11, 1)]), Some(6));
    }

    #[tokio::test]
    async fn an_idle_peer_and_a_last_acknowledgement_are_no_silence() {
        assert_eq!(after(&[(5, 5); 100]), None);
        let mut quiet = vec![(5, 5), (6, 5)];
        quiet.extend([(6, 5); 100]);
        assert_eq!(after(&quiet), None);
    }

    #[tokio::test]
    async fn an_answer_in_time_begins_anew() {
        let looks: Vec<_> = (0..100).map(|turn| (turn, turn / 4)).collect();
        assert_eq!(after(&looks), None);
    }
}
