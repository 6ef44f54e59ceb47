//! The storage of counters and gauges: chunks of slots, one row per shard.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Slots in one chunk: 1 KiB for each shard.
pub(crate) const SLOTS: usize = 128;
const PER_LINE: usize = 8;
const LINES: usize = SLOTS / PER_LINE;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread write the row of worker `index`. Call it once when a worker thread starts.
pub fn enter_worker(index: usize) {
    SHARD.set(index.saturating_add(1));
}

/// The row of the calling thread. Too large an index shares the last row: slower, never wrong.
#[inline]
pub(crate) fn current_shard(shards: usize) -> usize {
    SHARD.get().min(shards.saturating_sub(1))
}

/// One cache line of slots, so that rows of two shards never share a line.
#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; PER_LINE]);

pub(crate) struct Chunk {
    lines: Box<[Line]>,
    shards: usize,
    used: [AtomicBool; SLOTS],
}

/// One slot of a chunk: 16 bytes, cloned freely.
#[derive(Clone)]
pub(crate) struct Slot {
    chunk: Arc<Chunk>,
    index: u32,
}

impl Chunk {
    pub(crate) fn new(shards: usize) -> Arc<Self> {
        let shards = shards.max(1);
        Arc::new(Self {
            lines: std::iter::repeat_with(Line::default).take(shards * LINES).collect(),
            shards,
            used: [const { AtomicBool::new(false) }; SLOTS],
        })
    }

    /// The slot `index`, which must be below [`SLOTS`] (it wraps otherwise).
    pub(crate) fn slot(self: &Arc<Self>, index: usize) -> Slot {
        Slot { chunk: Arc::clone(self), index: (index % SLOTS) as u32 }
    }

    #[inline]
    fn cell(&self, shard: usize, index: usize) -> &AtomicU64 {
        // In range by construction: shard < shards and index < SLOTS.
        &self.lines[shard * LINES + index / PER_LINE].0[index % PER_LINE]
    }
}

impl Slot {
    #[inline]
    fn index(&self) -> usize {
        self.index as usize
    }

    /// Adds (wrapping, so that a gauge's subtraction is an addition too) in the caller's row.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        let shard = current_shard(self.chunk.shards);
        self.chunk.cell(shard, self.index()).fetch_add(n, Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        (0..self.chunk.shards)
            .fold(0, |sum, shard| sum.wrapping_add(self.chunk.cell(shard, self.index()).load(Relaxed)))
    }

    /// Makes the sum `value`. An `add` at the same moment on another thread may be lost.
    pub(crate) fn set(&self, value: u64) {
        for shard in 1..self.chunk.shards {
            self.chunk.cell(shard, self.index()).store(0, Relaxed);
        }
        self.chunk.cell(0, self.index()).store(value, Relaxed);
    }

    /// Takes the sum and leaves zero; no concurrent `add` is lost.
    pub(crate) fn take(&self) -> u64 {
        (0..self.chunk.shards)
            .fold(0, |sum, shard| sum.wrapping_add(self.chunk.cell(shard, self.index()).swap(0, Relaxed)))
    }

    #[inline]
    pub(crate) fn mark_used(&self) {
        let used = &self.chunk.used[self.index()];
        // Read first: the flag's line is shared by all workers and stays so as long as nobody writes it.
        if !used.load(Relaxed) {
            used.store(true, Relaxed);
        }
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.chunk.used[self.index()].load(Relaxed)
    }
}
