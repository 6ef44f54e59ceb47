//! Connections without a transport: octets in, frames out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod flow;
mod meter;
mod model;
mod splits;
mod states;

use std::task::Waker;

use adit_http::RequestKind;

use super::stream::Flags;
use super::*;
use crate::error::{Cause, code};
use crate::frame::{Fault, Head};
use crate::wire::Reader;

/// One end of a connection.
pub(super) struct End {
    pub(super) core: Core,
    reader: Reader,
    rest: BytesMut,
}

/// A frame that was sent; of a header block the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Sent {
    pub(super) fn code(&self) -> u32 {
        frame::word(if self.kind == frame::GOAWAY { &self.payload[4..] } else { &self.payload })
    }
}

pub(super) fn octets(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&Head::octets(payload.len(), kind, flags, stream)[..], payload].concat()
}

pub(super) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
pub(super) const OK: &[u8] = &[0x88];
pub(super) const ENDS: u8 = frame::END_STREAM | frame::END_HEADERS;
pub(super) const GOES_ON: u8 = frame::END_HEADERS;

impl End {
    pub(super) fn new(options: &Http2Options, is_server: bool) -> Self {
        let core = Core::new(options, is_server, false, None);
        Self { core, reader: Reader::new(is_server), rest: BytesMut::new() }
    }

    /// Both have seen the other's SETTINGS.
    pub(super) fn ready(options: &Http2Options, is_server: bool) -> Self {
        let mut end = Self::new(options, is_server);
        let preface = if is_server { frame::PREFACE } else { &[] };
        end.feed(preface).unwrap();
        end.feed(&[octets(frame::SETTINGS, 0, 0, &[]), octets(frame::SETTINGS, 1, 0, &[])].concat()).unwrap();
        end.sent();
        end
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.rest.extend_from_slice(bytes);
        self.reader.parse(&mut self.core, &mut self.rest, &mut u32::MAX.clone())
    }

    /// All that leaves.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let mut octets = Vec::new();
        let mut segments = Segments::default();
        loop {
            self.core.assemble(&mut segments);
            if segments.is_empty() {
                break;
            }
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let (used, _) = segments.slices(&mut slices);
            // Some of it, as a socket may.
            let n = slices[..used].iter().map(|slice| slice.len()).sum::<usize>().div_ceil(2);
            octets.extend(slices[..used].iter().flat_map(|slice| slice.to_vec()).take(n));
            segments.advance(n);
        }
        self.core.all_left();
        let mut rest = octets.strip_prefix(frame::PREFACE).unwrap_or(&octets);
        let mut sent = Vec::new();
        while let Some(head) = Head::read(rest) {
            let (payload, behind) = rest[frame::HEAD_LEN..].split_at(head.len as usize);
            let flags = rest[4];
            sent.push(Sent { kind: head.kind, flags, stream: head.stream, payload: payload.to_vec() });
            rest = behind;
        }
        assert!(rest.is_empty());
        sent
    }
}

pub(super) fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

pub(super) fn request() -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, http::Method::POST);
    head.authority = Some("a".parse().unwrap());
    head.path = Some("/".parse().unwrap());
    head
}

#[test]
fn the_records_are_small() {
    assert!(size_of::<stream::Stream>() <= 128, "{}", size_of::<stream::Stream>());
    assert!(size_of::<Core>() <= 1200, "{}", size_of::<Core>());
}

#[test]
fn a_tunnel_has_no_length_whatever_its_head_says() {
    let mut end = End::ready(&Http2Options::default(), true);
    // `:method: CONNECT`, `:authority: a:1`, `content-length: 5`, as literals.
    let connect = [&b"\x02\x07CONNECT"[..], b"\x01\x03a:1", b"\x0f\x0d\x015"].concat();
    end.feed(&octets(frame::HEADERS, frame::END_HEADERS, 1, &connect)).unwrap();
    let arrived = end.core.accept().unwrap();
    assert_eq!(arrived.head.headers.len(), 0);
    end.feed(&octets(frame::DATA, 0, 1, b"ten octets")).unwrap();
    assert!(end.sent().is_empty(), "no reset");
    assert!(end.core.poll_chunk(arrived.key, &noop()).is_ready());
}

#[test]
fn nothing_is_left_of_streams_that_are_over() {
    let mut end = End::ready(&Http2Options::default(), true);
    for id in (1..401).step_by(2) {
        end.feed(&octets(frame::HEADERS, ENDS, id, GET)).unwrap();
    }
    assert_eq!(end.core.streams.open, 200);
    end.feed(&octets(frame::WINDOW_UPDATE, 0, 0, &(1u32 << 20).to_be_bytes())).unwrap();
    while let Some(arrived) = end.core.accept() {
        end.core.respond(arrived.key, http::StatusCode::OK, &http::HeaderMap::new(), false).unwrap();
        let mut data = bytes::Bytes::from(vec![0; 2000]);
        assert!(end.core.poll_send(arrived.key, &noop(), &mut data, true).is_ready());
        end.core.drop_send(arrived.key, ErrorCode::Internal);
    }
    assert_eq!((end.core.live(), end.core.streams.open), (0, 200), "their answers did not leave yet");
    assert_eq!(end.sent().len(), 400);
    assert_eq!(end.core.streams.open, 0);
    assert!(end.core.streams.keys().is_empty() && end.core.ready.is_empty());
    assert_eq!((end.core.queued, end.core.control.capacity()), (0, 0));
}

#[test]
fn a_drain_names_the_last_stream_once_the_peer_heard_of_it() {
    let mut end = End::ready(&Http2Options::default(), true);
    end.feed(&octets(frame::HEADERS, ENDS, 1, GET)).unwrap();
    let arrived = end.core.accept().unwrap();
    end.core.drain();
    end.core.drain();
    let sent = end.sent();
    assert_eq!(sent.iter().map(|sent| sent.kind).collect::<Vec<_>>(), [frame::GOAWAY, frame::PING]);
    assert_eq!((frame::word(&sent[0].payload), sent[0].code()), (MAX_31, 0));
    end.feed(&octets(frame::HEADERS, ENDS, 3, GET)).unwrap();
    end.feed(&octets(frame::PING, frame::ACK, 0, &sent[1].payload)).unwrap();
    let sent = end.sent();
    assert_eq!((sent.len(), frame::word(&sent[0].payload), sent[0].code()), (1, 3, 0));
    // Behind it: decoded, and ignored.
    for kind in [frame::HEADERS, frame::DATA] {
        end.feed(&octets(kind, ENDS, 5, if kind == frame::DATA { b"x" } else { GET })).unwrap();
    }
    end.feed(&octets(frame::RST_STREAM, 0, 5, &[0; 4])).unwrap();
    assert!(end.sent().is_empty());
    let second = end.core.accept().unwrap();
    assert!(end.core.accept().is_none());
    for arrived in [arrived, second] {
        end.core.close_if_done();
        assert!(end.core.end.is_none());
        end.core.respond(arrived.key, http::StatusCode::OK, &http::HeaderMap::new(), true).unwrap();
        end.core.drop_send(arrived.key, ErrorCode::Internal);
    }
    end.core.close_if_done();
    assert_eq!(end.core.end, Some(crate::error::End::Closed));
}

/// A client that sends requests and reads nothing: what it is answered stays bounded.
#[test]
fn answers_that_are_not_read_stop_what_asks_for_them() {
    let mut end = End::ready(&Http2Options::default(), true);
    let mut segments = Segments::default();
    let (mut id, mut answered) = (1, 0);
    for _ in 0..20 {
        for _ in 0..500 {
            // Beyond the streams that may be open the others are refused.
            if end.feed(&octets(frame::HEADERS, ENDS, id, GET)).is_err() {
                break;
            }
            id += 2;
        }
        while let Some(arrived) = end.core.accept() {
            let mut headers = http::HeaderMap::new();
            headers.insert("x", http::HeaderValue::from_str(&format!("{id}").repeat(40)).unwrap());
            end.core.respond(arrived.key, http::StatusCode::OK, &headers, true).unwrap();
            end.core.drop_send(arrived.key, ErrorCode::Internal);
            answered += 1;
        }
        end.core.assemble(&mut segments);
        let _ = end.core.set_blocked();
    }
    assert!(answered < 8000 && end.core.is_stuck(), "{answered}");
    assert!(end.core.control.len() < 200 << 10, "{}", end.core.control.len());
    assert_eq!(end.core.streams.open, 1024);
}

/// What is asked is counted until its answer left, and no longer.
#[test]
fn answers_that_leave_are_no_debt() {
    let options = Http2Options { max_outbound_control_frames: 10, ..Http2Options::default() };
    let mut end = End::ready(&options, true);
    let ping = octets(frame::PING, 0, 0, &[0; 8]);
    for _ in 0..10 {
        end.feed(&ping.repeat(10)).unwrap();
        assert_eq!(end.core.set_blocked(), Ok(()));
        let mut segments = Segments::default();
        end.core.assemble(&mut segments);
        assert_eq!(end.core.set_blocked(), Ok(()));
        segments.advance(170);
        end.core.assemble(&mut segments);
    }
    end.feed(&ping.repeat(11)).unwrap();
    assert_eq!(end.core.set_blocked(), Err(Fault(code::ENHANCE_YOUR_CALM)));
}

/// The gauge of what waits forgets a connection that is lost.
#[test]
fn nothing_waits_on_a_connection_that_is_over() {
    #[derive(Default)]
    struct Pending(std::sync::atomic::AtomicI64);
    impl CodecStats for Pending {
        fn count(&self, _: crate::Counter) {}
        fn gauge(&self, gauge: crate::Gauge, delta: i64) {
            if gauge == crate::Gauge::PendingSendBytes {
                self.0.fetch_add(delta, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    let pending = Arc::new(Pending::default());
    let mut end = End::ready(&Http2Options::default(), true);
    end.core.stats = Stats(Some(pending.clone()));
    for id in [1, 3] {
        end.feed(&octets(frame::HEADERS, ENDS, id, GET)).unwrap();
        let key = end.core.accept().unwrap().key;
        end.core.respond(key, http::StatusCode::OK, &http::HeaderMap::new(), false).unwrap();
        let mut data = bytes::Bytes::from(vec![0; if id == 1 { 100 } else { 30_000 }]);
        assert!(end.core.poll_send(key, &noop(), &mut data, false).is_ready());
    }
    end.core.tell_pending();
    assert_eq!(pending.0.load(std::sync::atomic::Ordering::Relaxed), 30_100);
    end.core.lose(crate::error::End::Closed);
    assert_eq!(pending.0.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// One poll takes its share of frames and leaves the rest; SETTINGS count for the streams that they move.
#[test]
fn a_poll_takes_its_share_of_frames() {
    let mut end = End::ready(&Http2Options::default(), true);
    end.rest.extend(octets(frame::PING, 0, 0, &[0; 8]).repeat(10));
    let mut share = 4;
    end.reader.parse(&mut end.core, &mut end.rest, &mut share).unwrap();
    assert_eq!((share, end.rest.len(), end.sent().len()), (0, 6 * 17, 4));
    end.feed(&[]).unwrap();
    assert_eq!((end.rest.len(), end.sent().len()), (0, 6));
    for id in (1..200).step_by(2) {
        end.feed(&octets(frame::HEADERS, ENDS, id, GET)).unwrap();
    }
    end.rest.extend(octets(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).repeat(10));
    let mut share = 20;
    end.reader.parse(&mut end.core, &mut end.rest, &mut share).unwrap();
    assert_eq!((share, end.rest.len()), (0, 8 * 15));
}
