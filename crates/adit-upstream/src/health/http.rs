//! `http_health_check`, over the codecs that traffic uses.

use std::future::poll_fn;
use std::ops::Range;

use adit_codec::{ClientConn, ClientParts};
use adit_http::{RequestHead, RequestKind, ResponseHead, Scheme};
use http::{HeaderName, HeaderValue, Version, header};
use tokio::task::JoinSet;

use super::{Outcome, Target};
use crate::codec::{CodecFactory, Codecs};
use crate::plan::HttpCheck;

/// More of a body than this is not read: the connection is closed instead.
const MOST: usize = 64 << 10;

pub(super) struct Checker {
    target: Target,
    plan: HttpCheck,
    conn: Option<Box<dyn ClientConn>>,
    /// Drivers of multiplexed connections; ended with this.
    drivers: JoinSet<()>,
}

impl Checker {
    pub fn new(target: Target, plan: HttpCheck) -> Self {
        Self { target, plan, conn: None, drivers: JoinSet::new() }
    }

    pub fn close(&mut self) {
        self.conn = None;
        self.drivers = JoinSet::new();
    }

    pub async fn check(&mut self) -> Outcome {
        let reused = self.conn.is_some();
        match self.ask().await {
            Some(outcome) => outcome,
            // A connection that was kept may be gone: then a new one decides.
            None if reused => {
                self.close();
                self.ask().await.unwrap_or(Outcome::Network)
            }
            None => Outcome::Network,
        }
    }

    async fn ask(&mut self) -> Option<Outcome> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        poll_fn(|cx| conn.poll_ready(cx)).await.ok()?;
        let stream = conn.open(&self.request(), true).ok()?;
        let (mut send, mut response) = (stream.send, stream.response);
        poll_fn(|cx| send.poll_flush(cx)).await.ok()?;
        let head = loop {
            let head = poll_fn(|cx| response.poll_head(cx)).await.ok()?;
            if !head.status.is_informational() {
                break head;
            }
        };
        let mut recv = response.into_recv();
        let mut read = 0;
        while read <= MOST {
            match poll_fn(|cx| recv.poll_chunk(cx, 4096)).await {
                Some(Ok(chunk)) => read += chunk.len(),
                Some(Err(_)) => return None,
                None => break,
            }
        }
        if self.target.reuse && read <= MOST {
            self.conn = Some(conn);
        } else {
            self.close();
        }
        Some(self.judge(&head))
    }

    async fn connect(&mut self) -> Option<Box<dyn ClientConn>> {
        let io = self.target.connect().await?;
        let version = if self.plan.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let ClientParts { conn, driver } = Codecs.client(version, io, &self.target.core.plan.http).ok()?;
        if let Some(driver) = driver {
            self.drivers.spawn(async move {
                // How it ended shows in the connection.
                let _ = driver.await;
            });
        }
        Some(conn)
    }

    fn request(&self) -> RequestHead {
        let plan = &self.plan;
        let mut head = RequestHead::new(RequestKind::Plain, plan.method.clone());
        head.path = plan.path.parse().ok();
        let facts = &self.target.host.facts;
        let name = [&*facts.health_target.hostname, &*plan.host, &**self.target.core.plan.name()];
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        head.authority = name.parse().ok().or_else(|| "health-check".parse().ok());
        head.scheme = match self.target.core.plan.transport(facts.transport) {
            Some(factory) if factory.secure() => Scheme::Https,
            _ => Scheme::Http,
        };
        head.headers.insert(header::USER_AGENT, HeaderValue::from_static("Envoy/HC"));
        for (name, value) in &plan.add {
            head.headers.append(name.clone(), value.clone());
        }
        for name in &plan.remove {
            head.headers.remove(name);
        }
        head
    }

    fn judge(&self, head: &ResponseHead) -> Outcome {
        let status = i64::from(head.status.as_u16());
        let within = |ranges: &[Range<i64>]| ranges.iter().any(|range| range.contains(&status));
        let expected = if self.plan.expected.is_empty() { status == 200 } else { within(&self.plan.expected) };
        if expected {
            let degraded = head.headers.contains_key(HeaderName::from_static("x-envoy-degraded"));
            return Outcome::Healthy { degraded };
        }
        if within(&self.plan.retriable) { Outcome::Network } else { Outcome::Failed }
    }
}
