//! Datagrams of one connection, sorted to the streams they belong to (RFC 9297 section 2.1).

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use adit_codec::{DatagramError, Datagrams};
use bytes::Bytes;
use quinn::{ConnectionError, SendDatagramError, StreamId};

use crate::error::{Fatal, code};
use crate::shared::{Shared, lock};
use crate::{Counter, datagram, varint};

/// Datagrams kept for a stream whose owner has not asked for them yet: the request may still be under way.
const EARLY_PER_STREAM: usize = 8;
/// Bytes of such datagrams in a connection.
const EARLY_BYTES: usize = 64 << 10;
/// Datagrams that wait for the owner of one stream.
const QUEUE: usize = 64;
/// Bytes that wait for the owner of one stream.
const QUEUE_BYTES: usize = 128 << 10;
/// Datagrams read in one poll of a connection before it yields to its neighbours.
const PER_POLL: usize = 256;
/// What a datagram's place costs beside its bytes.
const OVERHEAD: usize = 64;

/// Where the datagrams of one connection wait.
#[derive(Default)]
pub(crate) struct Hub(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    streams: HashMap<u64, Queue>,
    early: VecDeque<(u64, Bytes)>,
    early_bytes: usize,
    over: bool,
}

#[derive(Default)]
struct Queue {
    payloads: VecDeque<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
}

impl Queue {
    /// Whether there was room.
    fn push(&mut self, payload: Bytes) -> bool {
        let cost = payload.len() + OVERHEAD;
        if self.payloads.len() >= QUEUE || self.bytes + cost > QUEUE_BYTES {
            return false;
        }
        self.bytes += cost;
        self.payloads.push_back(payload);
        true
    }
}

impl Hub {
    /// The datagrams of a stream, those included that came before anyone asked.
    pub(crate) fn open(self: &Arc<Self>, stream: StreamId, shared: Arc<Shared>) -> StreamDatagrams {
        let id = u64::from(stream);
        let mut inner = lock(&self.0);
        let mut queue = Queue::default();
        let early = std::mem::take(&mut inner.early);
        for (owner, payload) in early {
            if owner == id {
                inner.early_bytes -= payload.len() + OVERHEAD;
                queue.push(payload);
            } else {
                inner.early.push_back((owner, payload));
            }
        }
        inner.streams.insert(id, queue);
        drop(inner);
        StreamDatagrams { hub: self.clone(), shared, id }
    }

    /// One DATAGRAM frame; false when its payload was dropped.
    fn deliver(&self, frame: Bytes) -> Result<bool, Fatal> {
        let malformed = Fatal(code::DATAGRAM_ERROR, "datagram without a stream");
        let (id, payload) = datagram::decode(frame).map_err(|datagram::Malformed| malformed)?;
        let mut inner = lock(&self.0);
        let Some(queue) = inner.streams.get_mut(&id) else { return Ok(inner.keep_early(id, payload)) };
        let taken = queue.push(payload);
        let waker = queue.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(taken)
    }

    /// No datagram comes any more.
    fn end(&self) {
        let mut inner = lock(&self.0);
        inner.over = true;
        let wakers: Vec<_> = inner.streams.values_mut().filter_map(|queue| queue.waker.take()).collect();
        drop(inner);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Inner {
    /// Whether there was room, for which the oldest may have gone.
    fn keep_early(&mut self, id: u64, payload: Bytes) -> bool {
        let cost = payload.len() + OVERHEAD;
        let of_stream = self.early.iter().filter(|(owner, _)| *owner == id).count();
        if of_stream >= EARLY_PER_STREAM || cost > EARLY_BYTES {
            return false;
        }
        while self.early_bytes + cost > EARLY_BYTES {
            let Some((_, oldest)) = self.early.pop_front() else { break };
            self.early_bytes -= oldest.len() + OVERHEAD;
        }
        self.early_bytes += cost;
        self.early.push_back((id, payload));
        true
    }
}

type Read = Pin<Box<dyn Future<Output = Result<Bytes, ConnectionError>> + Send>>;

/// Takes the datagrams of a connection from quinn.
pub(crate) struct HubReader {
    hub: Arc<Hub>,
    conn: quinn::Connection,
    read: Option<Read>,
}

impl HubReader {
    pub(crate) fn new(hub: Arc<Hub>, conn: quinn::Connection) -> Self {
        Self { hub, conn, read: None }
    }

    /// Sorts what has arrived.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Result<(), Fatal> {
        for _ in 0..PER_POLL {
            let read = self.read.get_or_insert_with(|| {
                let conn = self.conn.clone();
                Box::pin(async move { conn.read_datagram().await })
            });
            let Poll::Ready(frame) = read.as_mut().poll(cx) else { return Ok(()) };
            self.read = None;
            match frame {
                Ok(frame) => {
                    if !self.hub.deliver(frame)? {
                        shared.count(Counter::RxDatagramDropped);
                    }
                }
                Err(_) => {
                    self.hub.end();
                    return Ok(());
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

impl Drop for HubReader {
    fn drop(&mut self) {
        self.hub.end();
    }
}

/// The datagrams of one stream.
pub(crate) struct StreamDatagrams {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    id: u64,
}

impl Datagrams for StreamDatagrams {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut inner = lock(&self.hub.0);
        let over = inner.over;
        let Some(queue) = inner.streams.get_mut(&self.id) else { return Poll::Ready(None) };
        if let Some(payload) = queue.payloads.pop_front() {
            queue.bytes -= payload.len() + OVERHEAD;
            return Poll::Ready(Some(payload));
        }
        if over {
            return Poll::Ready(None);
        }
        // An idle tunnel holds no buffer.
        queue.payloads.shrink_to_fit();
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, payload: &[&[u8]]) -> Result<(), DatagramError> {
        if !self.shared.peer().datagrams {
            return Err(DatagramError::Unsupported);
        }
        self.shared.conn.send_datagram(datagram::encode(self.id, payload)).map_err(|error| match error {
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => DatagramError::Unsupported,
            SendDatagramError::TooLarge => DatagramError::TooLarge,
            SendDatagramError::ConnectionLost(_) => DatagramError::Lost,
        })
    }

    fn max_size(&self) -> Option<usize> {
        if !self.shared.peer().datagrams {
            return None;
        }
        self.shared.conn.max_datagram_size()?.checked_sub(varint::len(self.id >> 2))
    }
}

impl Drop for StreamDatagrams {
    fn drop(&mut self) {
        lock(&self.hub.0).streams.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
