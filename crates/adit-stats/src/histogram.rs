//! Histograms: recorded per worker without a lock, merged when they are latched.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::buckets::{Bins, DECADES, PER_DECADE, bucket_id, bucket_of};
use crate::slots::Row;

/// A distribution of whole numbers. Recording is two plain additions in the worker's own memory.
///
/// A histogram that was never recorded costs 16 bytes per shard; the first record of a worker allocates its decades
/// (0.4 KiB), and each power of ten that occurs 0.7 KiB more, once.
#[derive(Clone, Default)]
pub struct Histogram(pub(crate) Option<Arc<Inner>>);

pub(crate) struct Inner {
    shards: Box<[OnceLock<Box<Shard>>]>,
    merged: Mutex<Merged>,
}

/// What one worker recorded since the start.
#[derive(Default)]
struct Shard {
    zero: AtomicU64,
    sum: AtomicU64,
    decades: [OnceLock<Box<[AtomicU64; PER_DECADE]>>; DECADES],
}

/// What the readouts show: the interval between the last two latches, and everything up to the last one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged {
    pub(crate) interval: Bins,
    pub(crate) cumulative: Bins,
}

impl Histogram {
    pub(crate) fn new(shards: usize) -> Self {
        Self(Some(Arc::new(Inner {
            shards: std::iter::repeat_with(OnceLock::new).take(shards.max(1)).collect(),
            merged: Mutex::default(),
        })))
    }

    /// Records one sample. It shows in the readouts after the next [`crate::Store::latch_histograms`].
    pub fn record(&self, value: u64) {
        let Some(inner) = &self.0 else { return };
        let row = Row::current(inner.shards.len());
        let shard = inner.shards[row.index()].get_or_init(Box::default);
        row.add(&shard.sum, value);
        match bucket_of(value) {
            None => row.add(&shard.zero, 1),
            Some((decade, mantissa)) => {
                let decade = shard.decades[decade].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PER_DECADE]));
                row.add(&decade[mantissa], 1);
            }
        }
    }

    /// Samples up to the last latch.
    pub fn count(&self) -> u64 {
        self.merged().cumulative.count
    }

    /// Sum of the samples up to the last latch.
    pub fn sum(&self) -> u64 {
        self.merged().cumulative.sum
    }

    /// Whether a sample was latched.
    pub fn used(&self) -> bool {
        self.count() != 0
    }

    pub(crate) fn latch(&self) {
        let Some(inner) = &self.0 else { return };
        let mut merged = inner.merged.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cumulative = Bins::default();
        for shard in inner.shards.iter().filter_map(OnceLock::get) {
            shard.add_to(&mut cumulative);
        }
        merged.interval = cumulative.since(&merged.cumulative);
        merged.cumulative = cumulative;
    }

    pub(crate) fn merged(&self) -> Merged {
        let Some(inner) = &self.0 else {
            return Merged::default();
        };
        inner.merged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shard {
    fn add_to(&self, bins: &mut Bins) {
        bins.sum = bins.sum.wrapping_add(self.sum.load(Relaxed));
        bins.add(0, self.zero.load(Relaxed));
        for (decade, cells) in self.decades.iter().enumerate() {
            for (mantissa, cell) in cells.get().into_iter().flat_map(|cells| cells.iter().enumerate()) {
                bins.add(bucket_id(Some((decade, mantissa))), cell.load(Relaxed));
            }
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).finish_non_exhaustive()
    }
}
