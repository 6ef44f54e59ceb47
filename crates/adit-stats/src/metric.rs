//! The handles of counters, gauges and text readouts.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::slots::Slot;

/// A count that only grows (until [`crate::Store::reset_counters`]). Relaxed, without a lock, a clone is cheap.
///
/// The default value, and what a stats matcher rejects, is a counter that counts nothing and reads 0.
#[derive(Clone, Default)]
pub struct Counter(pub(crate) Option<Slot>);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        if let Some(slot) = &self.0 {
            slot.add(n);
        }
    }

    /// The sum over all threads.
    pub fn value(&self) -> u64 {
        self.0.as_ref().map_or(0, Slot::sum)
    }

    /// Whether it was ever added to, resets not forgotten.
    pub fn used(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| slot.is_marked() || slot.sum() != 0)
    }

    pub(crate) fn reset(&self) {
        if let Some(slot) = &self.0
            && slot.take() != 0
        {
            slot.mark_used();
        }
    }
}

/// A number that goes up and down. Use it either with `add`/`sub` or with `set`: a `set` at the very moment of an
/// `add` on another thread may swallow it.
///
/// The default value, and what a stats matcher rejects, is a gauge that holds nothing and reads 0; so no decision may
/// rest on a gauge.
#[derive(Clone, Default)]
pub struct Gauge(pub(crate) Option<Slot>);

impl Gauge {
    /// Makes the value `value`.
    pub fn set(&self, value: u64) {
        if let Some(slot) = &self.0 {
            slot.set(value);
            slot.mark_used();
        }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.sub(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        if let Some(slot) = &self.0 {
            slot.add(n);
            slot.mark_used();
        }
    }

    /// Subtracts `n`, on any thread, whichever thread added it.
    #[inline]
    pub fn sub(&self, n: u64) {
        if let Some(slot) = &self.0 {
            slot.add(n.wrapping_neg());
            slot.mark_used();
        }
    }

    /// Adds one now and takes it back when the result is dropped: `downstream_cx_active` and its like.
    #[must_use = "dropped at once it counts nothing"]
    pub fn hold(&self) -> GaugeHold {
        self.inc();
        GaugeHold(self.clone())
    }

    /// The value; never below zero, also while another thread is between its `sub` and the matching `add`.
    pub fn value(&self) -> u64 {
        let sum = self.0.as_ref().map_or(0, Slot::sum);
        // A sum in the upper half is a negative number caught between the rows.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }

    /// Whether it was ever written.
    pub fn used(&self) -> bool {
        self.0.as_ref().is_some_and(Slot::is_marked)
    }
}

/// One in a [`Gauge`] for as long as it lives (16 bytes).
#[derive(Debug)]
pub struct GaugeHold(Gauge);

impl Drop for GaugeHold {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A text under a name, such as a version.
#[derive(Clone, Default)]
pub struct TextReadout(pub(crate) Option<Arc<Mutex<Option<Arc<str>>>>>);

impl TextReadout {
    /// Makes the text `value`.
    pub fn set(&self, value: &str) {
        if let Some(cell) = &self.0 {
            *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.into());
        }
    }

    /// The text, empty if it was never set.
    pub fn value(&self) -> Arc<str> {
        self.get().unwrap_or_default()
    }

    /// Whether it was ever set.
    pub fn used(&self) -> bool {
        self.get().is_some()
    }

    fn get(&self) -> Option<Arc<str>> {
        self.0.as_ref().and_then(|cell| cell.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.value()).finish()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.value()).finish()
    }
}

impl fmt::Debug for TextReadout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TextReadout").field(&self.value()).finish()
    }
}
