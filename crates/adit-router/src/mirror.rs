//! Copies of requests for other clusters (`request_mirror_policies`): sent, and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_codec::SendStream;
use adit_filter::upstream::{Cluster, Need, Priority};
use adit_filter::{BoxFuture, HttpStream};
use adit_http::{ErrorCode, RequestHead, StreamError};
use adit_io::{ConnInfo, FilterState, Metadata};
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::table::authority;
use crate::table::route::{Mirror, ShadowHost};

/// Chunks that wait for a mirror at most; bytes are limited besides.
const QUEUE: usize = 256;
/// How long a mirrored exchange may take without a route timeout: 60 s.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the body of a mirrored request is copied to. A mirror that cannot keep up is given up; the request never waits.
pub(crate) struct Tap {
    queue: Option<mpsc::Sender<Part>>,
    held: Arc<AtomicUsize>,
    limit: usize,
}

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Tap {
    pub(crate) fn data(&mut self, chunk: &Bytes) {
        if self.queue.is_none() {
            return;
        }
        let held = self.held.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len();
        if held > self.limit {
            self.queue = None;
            return;
        }
        // Copied: a view of a few bytes would hold the whole of the buffer that they were read into.
        self.push(Part::Data(Bytes::copy_from_slice(chunk)));
    }

    pub(crate) fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.push(trailers.map_or(Part::End, |trailers| Part::Trailers(trailers.clone())));
        self.queue = None;
    }

    fn push(&mut self, part: Part) {
        if let Some(queue) = &self.queue
            && queue.try_send(part).is_err()
        {
            self.queue = None;
        }
    }
}

/// Starts a mirror of a request; `None` when it is not sampled or has no cluster, or when no body is to follow.
pub(crate) fn start(
    mirror: &Mirror,
    stream: &HttpStream,
    head: &RequestHead,
    end: bool,
    limit: usize,
    timeout: Option<Duration>,
) -> Option<Tap> {
    if !mirror.fraction.sampled(&mirror.runtime, stream.random.rotate_left(17)) {
        return None;
    }
    let cluster = stream.worker.clusters.get(mirror.cluster.resolve(head)?)?;
    let mut head = head.clone();
    mirror.mutations.apply_request(&mut head, &stream.info);
    match &mirror.host {
        ShadowHost::Same => {}
        ShadowHost::Suffixed => head.authority = head.authority.as_ref().and_then(shadow).or(head.authority),
        ShadowHost::Literal(host) => head.authority = Some(host.clone()),
    }
    let (queue, parts) = mpsc::channel(QUEUE);
    let held = Arc::new(AtomicUsize::new(0));
    let copy = Copy {
        cluster,
        head,
        end,
        parts,
        held: held.clone(),
        conn: stream.info.conn.clone(),
        state: stream.info.state.clone(),
        metadata: stream.info.metadata.clone(),
    };
    let task: BoxFuture<'static, ()> = Box::pin(async move {
        // What becomes of a mirror is nobody's concern but the cluster's stats.
        let _ = tokio::time::timeout(timeout.unwrap_or(LIMIT), copy.run()).await;
    });
    stream.worker.spawn.spawn(task);
    (!end).then_some(Tap { queue: Some(queue), held, limit })
}

/// `host-shadow`, before the port.
fn shadow(old: &http::uri::Authority) -> Option<http::uri::Authority> {
    match old.port_u16() {
        Some(port) => authority(&format!("{}-shadow:{port}", old.host())),
        None => authority(&format!("{}-shadow", old.host())),
    }
}

struct Copy {
    cluster: Arc<dyn Cluster>,
    head: RequestHead,
    end: bool,
    parts: mpsc::Receiver<Part>,
    held: Arc<AtomicUsize>,
    conn: Arc<ConnInfo>,
    state: FilterState,
    metadata: Metadata,
}

impl Copy {
    async fn run(mut self) -> Result<(), StreamError> {
        let need = Need {
            priority: Priority::Default,
            hash: None,
            metadata_match: None,
            tried: &[],
            reselect: 0,
            request: Some(&self.head),
            tls_names: None,
            downstream: Some(&self.conn),
            state: &self.state,
            metadata: &self.metadata,
            extended_connect: false,
            address: None,
            wait: true,
            speaks_first: false,
        };
        let Ok(mut upstream) = self.cluster.http(&need).await else { return Ok(()) };
        let opened = upstream.lease.open(&self.head, self.end)?;
        let (mut send, mut response) = (opened.send, opened.response);
        if !self.end {
            copy_body(&mut send, &mut self.parts, &self.held).await?;
        }
        loop {
            let head = std::future::poll_fn(|cx| response.poll_head(cx)).await?;
            if !head.status.is_informational() {
                break;
            }
        }
        let mut recv = response.into_recv();
        while let Some(chunk) = std::future::poll_fn(|cx| recv.poll_chunk(cx, 16 * 1024)).await {
            chunk?;
        }
        Ok(())
    }
}

async fn copy_body(
    send: &mut Box<dyn SendStream>,
    parts: &mut mpsc::Receiver<Part>,
    held: &AtomicUsize,
) -> Result<(), StreamError> {
    loop {
        match parts.recv().await {
            Some(Part::Data(mut data)) => {
                let size = data.len();
                std::future::poll_fn(|cx| send.poll_send(cx, &mut data, false)).await?;
                held.fetch_sub(size, Ordering::Relaxed);
            }
            Some(Part::Trailers(trailers)) => {
                std::future::poll_fn(|cx| send.poll_send_trailers(cx, &trailers)).await?;
                break;
            }
            Some(Part::End) => {
                std::future::poll_fn(|cx| send.poll_send(cx, &mut Bytes::new(), true)).await?;
                break;
            }
            None => {
                send.reset(ErrorCode::Cancel);
                return Err(StreamError::Local(ErrorCode::Cancel));
            }
        }
    }
    std::future::poll_fn(|cx| send.poll_flush(cx)).await
}

#[cfg(test)]
mod tests;
