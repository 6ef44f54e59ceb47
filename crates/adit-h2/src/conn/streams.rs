//! The streams of a connection by number, and a memory of those that are over, to tell what comes too late from what crossed
//! our reset (RFC 9113 section 5.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;

use super::stream::{Flags, Stream};

/// Streams that the peer finished lately are remembered.
const REMEMBERED: usize = 32;
/// Resets of ours that are remembered, so that what was under way to the stream is ignored.
const RESETS: usize = 1024;
/// For how long.
const RESETS_FOR: Duration = Duration::from_secs(10);
/// Fewer places are not given back.
const MIN_PLACES: usize = 16;

/// What is remembered of a stream without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Both sides ended it.
    Ended,
    /// The peer reset it.
    PeerReset,
    /// We reset it.
    WeReset,
    /// Nothing.
    Forgotten,
}

/// The records.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slab: Slab<Stream>,
    /// Identifiers in rising order, each with its place.
    index: Vec<(u32, u32)>,
    finished: VecDeque<(u32, bool)>,
    resets: VecDeque<(u32, Instant)>,
    /// Those that count for the limits on concurrent streams.
    pub(crate) open: usize,
    /// The highest identifier that was opened.
    pub(crate) last: u32,
}

impl Streams {
    pub(crate) fn get(&mut self, key: u32) -> Option<&mut Stream> {
        self.slab.get_mut(key as usize)
    }

    pub(crate) fn find(&self, id: u32) -> Option<u32> {
        let at = self.index.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        self.index.get(at).map(|&(_, key)| key)
    }

    /// A stream whose identifier is above all before it.
    pub(crate) fn open(&mut self, mut stream: Stream) -> u32 {
        let id = stream.id;
        self.last = id;
        self.open += 1;
        stream.set(Flags::COUNTED);
        let key = self.slab.insert(stream) as u32;
        self.index.push((id, key));
        key
    }

    /// Notes that a closed stream counts no more.
    pub(crate) fn uncount(&mut self, key: u32) -> bool {
        let Some(stream) = self.slab.get_mut(key as usize) else { return false };
        if !stream.is_closed() || !stream.is(Flags::COUNTED) {
            return false;
        }
        stream.clear(Flags::COUNTED);
        self.open -= 1;
        true
    }

    /// Forgets a closed stream that nobody holds, but for how it ended.
    pub(crate) fn remove(&mut self, key: u32) {
        let Some(stream) = self.slab.try_remove(key as usize) else { return };
        if let Ok(at) = self.index.binary_search_by_key(&stream.id, |&(id, _)| id) {
            self.index.remove(at);
        }
        if stream.is(Flags::WE_RESET) {
            self.remember_reset(stream.id);
        } else {
            self.remember(stream.id, stream.is(Flags::OVER) && !stream.is(Flags::PEER_ENDED));
        }
        if self.slab.is_empty() && self.slab.capacity() > MIN_PLACES {
            self.slab = Slab::new();
        }
        if self.index.capacity() > MIN_PLACES.max(4 * self.index.len()) {
            self.index.shrink_to(2 * self.index.len());
        }
    }

    /// A stream that never had a record ended.
    pub(crate) fn remember_end(&mut self, id: u32) {
        self.remember(id, false);
    }

    fn remember(&mut self, id: u32, reset: bool) {
        if self.finished.len() >= REMEMBERED {
            self.finished.pop_front();
        }
        self.finished.push_back((id, reset));
    }

    pub(crate) fn remember_reset(&mut self, id: u32) {
        self.forget_old_resets();
        if self.resets.len() >= RESETS {
            self.resets.pop_front();
        }
        self.resets.push_back((id, Instant::now()));
    }

    fn forget_old_resets(&mut self) {
        let now = Instant::now();
        while self.resets.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) > RESETS_FOR) {
            self.resets.pop_front();
        }
        if self.resets.is_empty() {
            self.resets = VecDeque::new();
        }
    }

    /// What became of a stream that has no record.
    pub(crate) fn memory(&mut self, id: u32) -> Memory {
        if let Some(&(_, reset)) = self.finished.iter().rev().find(|&&(finished, _)| finished == id) {
            return if reset { Memory::PeerReset } else { Memory::Ended };
        }
        if self.resets.is_empty() {
            return Memory::Forgotten;
        }
        self.forget_old_resets();
        if self.resets.iter().any(|&(reset, _)| reset == id) { Memory::WeReset } else { Memory::Forgotten }
    }

    /// Every record's place.
    pub(crate) fn keys(&self) -> Vec<u32> {
        self.index.iter().map(|&(_, key)| key).collect()
    }
}
