//! Which streams are open, and what may still come on them (RFC 9113 section 5.1).
//!
//! The `h2` crate ends the connection with PROTOCOL_ERROR where the peer goes on behind the end of its own half, and tells
//! nobody what a header block stands for.

use crate::frames::{self, FrameHead};
use crate::walk::Fields;

/// Streams that the peer finished lately are remembered: what else it sends on them is told from what crossed our reset.
const REMEMBERED: usize = u32::BITS as usize;
/// Fewer places are not given back.
const MIN_PLACES: usize = 16;

/// The final head came: another block is trailers.
const HEAD_CAME: u8 = 1;
/// The peer ended its half.
const PEER_ENDED: u8 = 2;
/// We ended ours.
const WE_ENDED: u8 = 4;

#[derive(Debug, Clone, Copy)]
struct Stream {
    id: u32,
    state: u8,
}

/// The peer sent something on a stream that it had ended or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// A header block under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) stream: u32,
    /// Octets of the connection ahead of its HEADERS frame.
    pub(crate) at: u64,
    /// CONTINUATION follows.
    pub(crate) in_pieces: bool,
    part: Part,
    ends_stream: bool,
}

/// What a header block is of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    ResponseHead,
    Trailers,
    /// A request's head, or of a stream that is not followed: left to the `h2` crate.
    Other,
}

/// The streams of one connection, by rising identifier.
#[derive(Debug)]
pub(crate) struct Streams {
    live: Vec<Stream>,
    /// The highest identifier that was opened.
    last: u32,
    /// Beyond this many none is followed: a server's `h2` crate refuses those of its client, and what a client is answered on
    /// its own goes unjudged.
    max: usize,
    is_server: bool,
    finished: [u32; REMEMBERED],
    next_finished: u8,
    /// Which places of `finished` are of streams that the peer reset and had not ended, a bit for each; and which of them in
    /// this poll.
    reset: u32,
    reset_now: u32,
}

impl Streams {
    pub(crate) fn new(max: usize, is_server: bool) -> Self {
        Self {
            live: Vec::new(),
            last: 0,
            max,
            is_server,
            finished: [0; REMEMBERED],
            next_finished: 0,
            reset: 0,
            reset_now: 0,
        }
    }

    fn find(&self, id: u32) -> Result<usize, usize> {
        self.live.binary_search_by_key(&id, |stream| stream.id)
    }

    fn open(&mut self, id: u32, state: u8) {
        self.last = id;
        if self.live.len() < self.max {
            self.live.push(Stream { id, state });
        }
    }

    fn remove(&mut self, at: usize) {
        self.live.remove(at);
        if self.live.capacity() > MIN_PLACES.max(4 * self.live.len()) {
            self.live.shrink_to(2 * self.live.len());
        }
    }

    fn remember(&mut self, id: u32, reset: bool) {
        if let Some(place) = self.finished.get_mut(usize::from(self.next_finished)) {
            *place = id;
        }
        let (bit, set) = (1 << self.next_finished, u32::from(reset) << self.next_finished);
        self.reset = self.reset & !bit | set;
        self.reset_now = self.reset_now & !bit | set;
        self.next_finished = (self.next_finished + 1) % REMEMBERED as u8;
    }

    /// Where it is remembered.
    fn finished(&self, id: u32) -> Option<usize> {
        self.finished.iter().position(|&finished| finished == id).filter(|_| id != 0)
    }

    /// The connection is polled anew: those who held streams may have let go of them.
    pub(crate) fn begin_poll(&mut self) {
        self.reset_now = 0;
    }

    /// Notes the end of one half; the stream is over with both.
    fn end(&mut self, at: usize, half: u8) {
        let Some(stream) = self.live.get_mut(at) else { return };
        stream.state |= half;
        if stream.state & (PEER_ENDED | WE_ENDED) == PEER_ENDED | WE_ENDED {
            let id = stream.id;
            self.remove(at);
            self.remember(id, false);
        }
    }

    /// DATA from the peer. Behind its RST_STREAM the `h2` crate answers STREAM_CLOSED for the stream alone (RFC 9113 section
    /// 5.1), once it has forgotten it: that is not in the poll that brought the reset.
    pub(crate) fn data(&mut self, head: FrameHead) -> Result<(), Closed> {
        match self.find(head.stream) {
            Ok(at) if self.state(at) & PEER_ENDED != 0 => return Err(Closed),
            Ok(at) if head.is_end_stream() => self.end(at, PEER_ENDED),
            Ok(_) => {}
            Err(_) => {
                let bit = self.finished(head.stream).map_or(0, |place| 1 << place);
                if bit & (self.reset_now | !self.reset) != 0 {
                    return Err(Closed);
                }
            }
        }
        Ok(())
    }

    /// HEADERS from the peer. `None` if the block may pass as it is.
    pub(crate) fn headers(&mut self, head: FrameHead) -> Result<Option<Block>, Closed> {
        let part = self.part(head)?;
        let in_pieces = !head.is_end_headers();
        let block = Block { stream: head.stream, at: head.at, in_pieces, part, ends_stream: head.is_end_stream() };
        Ok(Some(block).filter(|_| in_pieces || part != Part::Other))
    }

    fn part(&mut self, head: FrameHead) -> Result<Part, Closed> {
        let id = head.stream;
        let opens = self.is_server && id > self.last && id & 1 == 1;
        if opens {
            let ended = if head.is_end_stream() { PEER_ENDED } else { 0 };
            self.open(id, HEAD_CAME | ended);
            return Ok(Part::Other);
        }
        let Ok(at) = self.find(id) else {
            return if self.finished(id).is_some() { Err(Closed) } else { Ok(Part::Other) };
        };
        let state = self.state(at);
        if state & PEER_ENDED != 0 {
            return Err(Closed);
        }
        if head.is_end_stream() {
            self.end(at, PEER_ENDED);
        }
        Ok(if state & HEAD_CAME != 0 { Part::Trailers } else { Part::ResponseHead })
    }

    /// A block is over. Whether it is part of a malformed message that the `h2` crate would pass on (RFC 9113 sections 8.1
    /// and 8.3); its stream is to be reset, and what else comes on it crosses the reset.
    pub(crate) fn is_malformed(&mut self, block: Block, fields: Fields) -> bool {
        let malformed = match block.part {
            Part::Other => false,
            Part::Trailers => fields.has_pseudo(),
            Part::ResponseHead => {
                let (interim, last) = (fields.has_interim_status(), fields.has_final_status());
                fields.has_request_pseudo() || !(interim || last) || (interim && block.ends_stream)
            }
        };
        if let Ok(at) = self.find(block.stream) {
            if malformed {
                self.remove(at);
            } else if fields.has_final_status()
                && let Some(stream) = self.live.get_mut(at)
            {
                stream.state |= HEAD_CAME;
            }
        }
        malformed
    }

    /// RST_STREAM from the peer.
    pub(crate) fn reset_by_peer(&mut self, id: u32) {
        if let Ok(at) = self.find(id) {
            let ended = self.state(at) & PEER_ENDED != 0;
            self.remove(at);
            self.remember(id, !ended);
        }
    }

    /// A frame of ours left.
    pub(crate) fn sent(&mut self, head: FrameHead) {
        let id = head.stream;
        match head.kind {
            frames::HEADERS if !self.is_server && id > self.last => {
                self.open(id, if head.is_end_stream() { WE_ENDED } else { 0 });
            }
            frames::HEADERS | frames::DATA if head.is_end_stream() => {
                if let Ok(at) = self.find(id) {
                    self.end(at, WE_ENDED);
                }
            }
            // What crosses it is ignored by the h2 crate for a while.
            frames::RST_STREAM => {
                if let Ok(at) = self.find(id) {
                    self.remove(at);
                }
            }
            _ => {}
        }
    }

    fn state(&self, at: usize) -> u8 {
        self.live.get(at).map_or(0, |stream| stream.state)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::frames::{DATA, FrameScanner, HEADERS, RST_STREAM};

    fn head(kind: u8, ends: bool, stream: u32) -> FrameHead {
        let mut found = None;
        let flags = if ends { 5 } else { 4 };
        let [a, b, c, d] = stream.to_be_bytes();
        let octets = [0, 0, 4, kind, flags, a, b, c, d, 0, 0, 0, 0];
        FrameScanner::new(false).feed(&octets, &mut |head| found = Some(head));
        found.unwrap()
    }

    #[test]
    fn a_stream_is_followed_until_both_sides_ended_it() {
        let mut streams = Streams::new(10, true);
        assert_eq!(streams.headers(head(HEADERS, false, 1)), Ok(None));
        assert_eq!(streams.headers(head(HEADERS, true, 3)), Ok(None));
        assert_eq!(streams.data(head(DATA, false, 1)), Ok(()));
        assert_eq!(streams.data(head(DATA, false, 3)), Err(Closed));
        assert_eq!(streams.headers(head(HEADERS, false, 3)), Err(Closed));
        streams.sent(head(HEADERS, false, 1));
        streams.sent(head(DATA, true, 1));
        assert_eq!(streams.data(head(DATA, true, 1)), Ok(()));
        assert_eq!(streams.live.len(), 1);
        assert_eq!(streams.data(head(DATA, false, 1)), Err(Closed));
        streams.sent(head(HEADERS, true, 3));
        assert_eq!(streams.headers(head(HEADERS, true, 3)), Err(Closed));
        assert!(streams.live.is_empty());
        // Never opened: somebody else's business.
        assert_eq!(streams.headers(head(HEADERS, true, 2)), Ok(None));
        assert_eq!(streams.data(head(DATA, true, 7)), Ok(()));
    }

    #[test]
    fn what_crosses_our_reset_is_no_fault_and_what_follows_the_peers_is_one() {
        let mut streams = Streams::new(10, true);
        for id in [1, 3] {
            streams.headers(head(HEADERS, false, id)).unwrap();
        }
        streams.sent(head(RST_STREAM, false, 1));
        assert_eq!(streams.data(head(DATA, true, 1)), Ok(()));
        assert_eq!(streams.headers(head(HEADERS, true, 1)), Ok(None));
        streams.reset_by_peer(3);
        assert_eq!(streams.data(head(DATA, true, 3)), Err(Closed));
        streams.begin_poll();
        assert_eq!(streams.data(head(DATA, true, 3)), Ok(()), "the h2 crate knows it no more");
        assert_eq!(streams.headers(head(HEADERS, true, 3)), Err(Closed));
        assert!(streams.live.is_empty());
        streams.headers(head(HEADERS, true, 5)).unwrap();
        streams.reset_by_peer(5);
        streams.begin_poll();
        assert_eq!(streams.data(head(DATA, true, 5)), Err(Closed), "it had ended it");
        // The place is another's now.
        for id in (7..7 + 2 * REMEMBERED as u32).step_by(2) {
            streams.headers(head(HEADERS, true, id)).unwrap();
            streams.sent(head(HEADERS, true, id));
            assert_eq!(streams.data(head(DATA, true, id)), Err(Closed));
        }
    }

    #[test]
    fn no_more_are_followed_than_may_be_open_and_places_are_given_back() {
        let mut streams = Streams::new(100, true);
        for id in (1..2001).step_by(2) {
            streams.headers(head(HEADERS, false, id)).unwrap();
        }
        assert_eq!(streams.live.len(), 100);
        for id in (1..2001).step_by(2) {
            streams.reset_by_peer(id);
        }
        assert!(streams.live.is_empty() && streams.live.capacity() <= MIN_PLACES);
        // An identifier far back is forgotten.
        assert_eq!(streams.data(head(DATA, true, 1)), Ok(()));
        assert_eq!(streams.data(head(DATA, true, 199)), Err(Closed));
    }

    #[test]
    fn a_client_tells_interim_heads_final_ones_and_trailers() {
        let fields = |octets: &[u8]| {
            let mut validator = crate::walk::Validator::default();
            validator.feed(octets).unwrap();
            validator.end().unwrap()
        };
        let (interim, last, path) = (fields(b"\x08\x03103"), fields(&[0x88]), fields(&[0x88, 0x84]));
        let (trailers, nothing) = (fields(b"\x00\x01x\x01y"), fields(&[]));
        let mut streams = Streams::new(10, false);
        streams.sent(head(HEADERS, true, 1));
        let mut judge = |ends, fields| {
            let block = streams.headers(head(HEADERS, ends, 1)).unwrap().unwrap();
            streams.is_malformed(block, fields)
        };
        assert!(!judge(false, interim));
        assert!(!judge(false, last));
        assert!(!judge(false, trailers));
        assert!(!judge(true, nothing));
        for (stream, ends, fields, what) in [
            (3, false, path, "a path"),
            (5, true, interim, "an interim response that ends the stream"),
            (7, true, trailers, "no status"),
        ] {
            streams.sent(head(HEADERS, false, stream));
            let block = streams.headers(head(HEADERS, ends, stream)).unwrap().unwrap();
            assert!(streams.is_malformed(block, fields), "{what}");
            assert_eq!(streams.headers(head(HEADERS, ends, stream)), Ok(None), "it crosses the reset");
            assert_eq!(streams.data(head(DATA, true, stream)), Ok(()), "it crosses the reset");
        }
    }
}
