//! What a stream costs on the wire beside its payload.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of one stream that are no payload: heads, framing, trailers. Kept by its codec, read by who logs it.
///
/// A connection and its streams belong to one worker, so there is one who counts at a time, and counting takes no locked
/// instruction. Anybody may read.
#[derive(Debug, Default)]
pub struct Meter {
    received: AtomicU64,
    sent: AtomicU64,
    fields_received: AtomicU64,
    fields_sent: AtomicU64,
}

impl Meter {
    /// More was received beside the payload; `fields` is the part of `bytes` that header fields are.
    pub fn received(&self, bytes: usize, fields: usize) {
        count(&self.received, bytes as u64);
        count(&self.fields_received, fields as u64);
    }

    /// More was sent beside the payload.
    pub fn sent(&self, bytes: usize, fields: usize) {
        count(&self.sent, bytes as u64);
        count(&self.fields_sent, fields as u64);
    }

    /// Adds all that another stream cost.
    pub fn add(&self, other: &Self) {
        for (to, from) in [
            (&self.received, &other.received),
            (&self.sent, &other.sent),
            (&self.fields_received, &other.fields_received),
            (&self.fields_sent, &other.fields_sent),
        ] {
            count(to, from.load(Relaxed));
        }
    }

    /// Bytes received beside the payload, and those of them that are header fields.
    pub fn total_received(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.fields_received.load(Relaxed))
    }

    /// Bytes sent beside the payload, and those of them that are header fields.
    pub fn total_sent(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.fields_sent.load(Relaxed))
    }
}

fn count(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
    }
}
