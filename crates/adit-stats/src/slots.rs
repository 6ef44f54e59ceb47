//! The storage of counters and gauges: chunks of slots, one row per shard.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Slots in one chunk: 1 KiB for each shard.
pub(crate) const SLOTS: usize = 128;
const PER_LINE: usize = 8;
const LINES: usize = SLOTS / PER_LINE;

thread_local! {
    static ROW: Cell<usize> = const { Cell::new(MAIN) };
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// The row of every thread that has none of its own.
const MAIN: usize = 0;

/// The rows that a thread has to itself.
static CLAIMED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// A thread's own row, given back when the thread ends.
struct Claim(usize);

impl Claim {
    fn of(row: usize) -> Option<Self> {
        let free = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
        free.then(|| Self(row))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What the thread still counts while it ends goes to the main row.
        ROW.set(MAIN);
        CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Gives the calling thread the row of worker `index`, which it then writes alone and without a locked instruction. Call it
/// once when a worker thread starts. Where another living thread has that row, this one keeps the main row: slower, never
/// wrong.
pub fn enter_worker(index: usize) {
    CLAIM.set(None);
    let claim = Claim::of(index.saturating_add(1));
    ROW.set(claim.as_ref().map_or(MAIN, |claim| claim.0));
    CLAIM.set(claim);
}

/// The row that the calling thread writes.
#[derive(Clone, Copy)]
pub(crate) struct Row(usize);

impl Row {
    /// Of storage with so many rows: too large an index has the main row too.
    #[inline]
    pub(crate) fn current(shards: usize) -> Self {
        let row = ROW.get();
        Self(if row < shards { row } else { MAIN })
    }

    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// Adds (wrapping) to a cell of this row. Nobody else writes a cell of a row with an owner, so that it need not be locked,
    /// which would cost twenty times as much.
    #[inline]
    pub(crate) fn add(self, cell: &AtomicU64, n: u64) {
        if self.0 == MAIN {
            cell.fetch_add(n, Relaxed);
        } else {
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }
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
        let row = Row::current(self.chunk.shards);
        row.add(self.chunk.cell(row.index(), self.index()), n);
    }

    pub(crate) fn sum(&self) -> u64 {
        (0..self.chunk.shards)
            .fold(0, |sum, shard| sum.wrapping_add(self.chunk.cell(shard, self.index()).load(Relaxed)))
    }

    /// Makes the sum `value`. An `add` at the same moment on another thread may be lost, or may bring back what that thread had added
    /// before: for what is only ever set.
    pub(crate) fn set(&self, value: u64) {
        for shard in 1..self.chunk.shards {
            self.chunk.cell(shard, self.index()).store(0, Relaxed);
        }
        self.chunk.cell(0, self.index()).store(value, Relaxed);
    }

    /// Takes the sum and leaves zero; no concurrent `add` is lost, as only the main row is written. Not for two threads at once.
    pub(crate) fn take(&self) -> u64 {
        let sum = self.sum();
        self.chunk.cell(MAIN, self.index()).fetch_sub(sum, Relaxed);
        sum
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
