//! `tcp_health_check`.

use adit_io::Io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Outcome, Target};
use crate::plan::TcpCheck;

/// An answer longer than this without what is looked for is none.
const MOST: usize = 64 << 10;

pub(super) struct Checker {
    target: Target,
    plan: TcpCheck,
    io: Option<Io>,
}

impl Checker {
    pub fn new(target: Target, plan: TcpCheck) -> Self {
        Self { target, plan, io: None }
    }

    pub fn close(&mut self) {
        self.io = None;
    }

    pub async fn check(&mut self) -> Outcome {
        // A connection that was kept may be gone: then a new one decides.
        if let Some(io) = self.io.take()
            && let Some(outcome) = self.on(io).await
        {
            return outcome;
        }
        match self.target.connect().await {
            Some(io) => self.on(io).await.unwrap_or(Outcome::Network),
            None => Outcome::Network,
        }
    }

    async fn on(&mut self, mut io: Io) -> Option<Outcome> {
        if !self.plan.send.is_empty() {
            io.write_all(&self.plan.send).await.ok()?;
            io.flush().await.ok()?;
        }
        let mut got = Vec::new();
        while !matches(&self.plan.receive, &got) {
            if got.len() > MOST || io.read_buf(&mut got).await.ok()? == 0 {
                return None;
            }
        }
        if self.target.reuse && !self.plan.receive.is_empty() {
            self.io = Some(io);
        }
        Some(Outcome::Healthy { degraded: false })
    }
}

/// Whether the parts occur one after the other, with anything in between.
fn matches(parts: &[Vec<u8>], mut text: &[u8]) -> bool {
    parts.iter().all(|part| {
        // A window of nothing cannot be made, and nothing is found everywhere.
        let at = if part.is_empty() { Some(0) } else { text.windows(part.len()).position(|window| window == part) };
        at.is_some_and(|at| {
            text = text.get(at + part.len()..).unwrap_or_default();
            true
        })
    })
}
