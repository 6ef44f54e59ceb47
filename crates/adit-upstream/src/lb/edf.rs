//! Earliest deadline first: the smooth weighted rotation that Envoy's round robin and least request use.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Gives each of some entries its turn as often as it weighs, spread evenly.
pub(crate) struct Scheduler {
    heap: BinaryHeap<Reverse<Entry>>,
    now: f64,
    order: u64,
}

struct Entry {
    deadline: f64,
    /// Breaks ties in the order of insertion.
    order: u64,
    index: usize,
}

impl Scheduler {
    pub fn new(count: usize, weight: impl Fn(usize) -> f64) -> Self {
        let mut this = Self { heap: BinaryHeap::with_capacity(count), now: 0.0, order: 0 };
        for index in 0..count {
            this.push(index, weight(index));
        }
        // So that workers that start together do not all begin with the same host.
        for _ in 0..fastrand::usize(..count.max(1)) {
            this.next(&weight);
        }
        this
    }

    /// The next entry; `weight` says what each weighs now.
    pub fn next(&mut self, weight: impl Fn(usize) -> f64) -> usize {
        let Some(Reverse(entry)) = self.heap.pop() else { return 0 };
        self.now = entry.deadline;
        self.push(entry.index, weight(entry.index));
        entry.index
    }

    fn push(&mut self, index: usize, weight: f64) {
        let deadline = self.now + 1.0 / weight.max(1e-9);
        self.order += 1;
        self.heap.push(Reverse(Entry { deadline, order: self.order, index }));
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
