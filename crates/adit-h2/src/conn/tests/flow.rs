//! Windows in both directions, and turns (RFC 9113 section 5.2).

use std::task::Poll;

use bytes::Bytes;

use super::*;

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    octets(frame::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn initial_window(size: u32) -> Vec<u8> {
    octets(frame::SETTINGS, 0, 0, &[&[0, 4][..], &size.to_be_bytes()].concat())
}

/// A server with answers under way to so many requests.
fn answering(streams: u32) -> (End, Vec<u32>) {
    let mut end = End::ready(&Http2Options::default(), true);
    let mut keys = Vec::new();
    for n in 0..streams {
        end.feed(&octets(frame::HEADERS, ENDS, 2 * n + 1, GET)).unwrap();
        let key = end.core.accept().unwrap().key;
        end.core.respond(key, http::StatusCode::OK, &http::HeaderMap::new(), false).unwrap();
        keys.push(key);
    }
    end.sent();
    (end, keys)
}

/// Lengths of the DATA frames that leave, by stream.
fn data(end: &mut End) -> Vec<(u32, usize)> {
    let sent = end.sent();
    sent.iter().filter(|sent| sent.kind == frame::DATA).map(|sent| (sent.stream, sent.payload.len())).collect()
}

fn send(end: &mut End, key: u32, data: &mut Bytes) -> Poll<std::result::Result<(), StreamError>> {
    end.core.poll_send(key, &noop(), data, false)
}

#[test]
fn no_more_is_sent_than_both_windows_allow() {
    let (mut end, keys) = answering(2);
    let mut whole = Bytes::from(vec![1; 200_000]);
    assert!(send(&mut end, keys[0], &mut whole).is_pending());
    assert_eq!(data(&mut end).iter().map(|&(_, len)| len).sum::<usize>(), 65_535);
    // The connection's window is used up: more for the stream alone is of no use.
    end.feed(&window_update(1, 100_000)).unwrap();
    assert!(send(&mut end, keys[0], &mut whole).is_pending());
    assert!(send(&mut end, keys[1], &mut Bytes::from_static(b"x")).is_pending());
    assert!(data(&mut end).is_empty());
    end.feed(&window_update(0, 5000)).unwrap();
    assert!(send(&mut end, keys[0], &mut whole).is_pending());
    assert!(send(&mut end, keys[1], &mut Bytes::from_static(b"x")).is_ready());
    let sent = data(&mut end);
    assert!(sent.contains(&(3, 1)) && sent.iter().map(|&(_, len)| len).sum::<usize>() <= 5000, "{sent:?}");
}

#[test]
fn a_window_that_is_taken_back_stops_what_waits_already() {
    let (mut end, keys) = answering(1);
    let mut whole = Bytes::from(vec![1; 50_000]);
    assert!(send(&mut end, keys[0], &mut whole).is_ready());
    end.feed(&initial_window(20_000)).unwrap();
    assert_eq!(data(&mut end).iter().map(|&(_, len)| len).sum::<usize>(), 20_000);
    end.feed(&window_update(1, 1000)).unwrap();
    assert_eq!(data(&mut end), [(1, 1000)]);
    end.feed(&initial_window(0)).unwrap();
    end.feed(&window_update(1, 20_000)).unwrap();
    assert_eq!(data(&mut end), []);
    end.feed(&initial_window(1 << 20)).unwrap();
    assert_eq!(data(&mut end).iter().map(|&(_, len)| len).sum::<usize>(), 29_000);
}

#[test]
fn windows_beyond_their_largest_size_are_errors() {
    let flow = Err(Fault(code::FLOW_CONTROL_ERROR));
    // What waits in us counts, as the peer has not seen it.
    let (mut end, keys) = answering(1);
    assert!(send(&mut end, keys[0], &mut Bytes::from(vec![1; 2000])).is_ready());
    assert_eq!(end.feed(&window_update(0, MAX_31 - 65_534)), flow);
    let (mut end, keys) = answering(2);
    assert!(send(&mut end, keys[0], &mut Bytes::from(vec![1; 2000])).is_ready());
    end.feed(&window_update(0, MAX_31 - 65_535)).unwrap();
    end.feed(&window_update(3, MAX_31 - 65_534)).unwrap();
    assert_eq!(end.sent().iter().find(|sent| sent.kind == frame::RST_STREAM).unwrap().code(), 3);
    let (mut end, _) = answering(1);
    end.feed(&window_update(1, MAX_31 - 65_535)).unwrap();
    assert_eq!(end.feed(&initial_window(65_536)), flow);
}

#[test]
fn streams_take_turns() {
    let (mut end, keys) = answering(3);
    end.feed(&window_update(0, 1 << 20)).unwrap();
    for &key in &keys {
        assert!(send(&mut end, key, &mut Bytes::from(vec![1; 50_000])).is_ready());
    }
    let sent: Vec<_> = data(&mut end).iter().map(|&(stream, _)| stream).collect();
    assert_eq!(sent, [1, 3, 5, 1, 3, 5, 1, 3, 5, 1, 3, 5]);
}

/// A stream that takes all there is each time does not keep it from the others.
#[test]
fn a_narrow_connection_window_is_shared() {
    let (mut end, keys) = answering(8);
    let mut left: Vec<_> = keys.iter().map(|_| Bytes::from(vec![1; 1 << 20])).collect();
    for &stream in &[1, 3, 5, 7, 9, 11, 13, 15] {
        end.feed(&window_update(stream, 1 << 20)).unwrap();
    }
    let mut got = [0; 8];
    for _ in 0..40 {
        for (&key, left) in keys.iter().zip(&mut left) {
            assert!(send(&mut end, key, left).is_pending());
        }
        for (stream, len) in data(&mut end) {
            got[(stream / 2) as usize] += len;
        }
        end.feed(&window_update(0, 16_384)).unwrap();
        // What was sent allows for more frames of this kind.
    }
    assert!(got.iter().all(|&len| len >= 40_000), "{got:?}");
}

#[test]
fn windows_are_given_back_for_what_went_onward() {
    let options = Http2Options { initial_connection_window_size: 1 << 20, ..Http2Options::default() };
    let mut end = End::ready(&options, true);
    end.feed(&octets(frame::HEADERS, GOES_ON, 1, GET)).unwrap();
    let key = end.core.accept().unwrap().key;
    let chunk = octets(frame::DATA, 0, 1, &[0; 1 << 18]);
    for _ in 0..3 {
        end.feed(&chunk).unwrap();
    }
    assert!(end.sent().is_empty(), "nobody took it");
    let mut updates = Vec::new();
    for _ in 0..3 {
        assert!(matches!(end.core.poll_chunk(key, &noop()), Poll::Ready(Ok(send::Received::Chunk(_)))));
        updates.push(end.sent().iter().map(|sent| (sent.stream, sent.code())).collect::<Vec<_>>());
    }
    // Handed out is not onward: that is known when the next is asked for.
    assert_eq!(updates, [vec![], vec![(1, 1 << 18), (0, 1 << 18)], vec![(1, 1 << 18), (0, 1 << 18)]]);
    // Let go of: the connection gets back what its stream does not.
    end.core.drop_recv(key);
    let mut back = 0;
    for _ in 0..3 {
        end.feed(&chunk).unwrap();
        let sent = end.sent();
        assert!(sent.iter().all(|sent| (sent.kind, sent.stream) == (frame::WINDOW_UPDATE, 0)));
        back += sent.len();
    }
    assert!(back > 0);
    end.feed(&chunk).unwrap();
    assert_eq!(end.sent()[0].code(), code::FLOW_CONTROL_ERROR, "its window stays shut");
}

/// What a stream's window of 1 MiB is given back for these pieces, all of which came before the first was read.
fn given_for(pieces: &[usize]) -> Vec<u32> {
    let mut end = End::ready(&Http2Options::default(), true);
    end.feed(&octets(frame::HEADERS, GOES_ON, 1, GET)).unwrap();
    let key = end.core.accept().unwrap().key;
    for len in pieces {
        end.feed(&octets(frame::DATA, 0, 1, &vec![0; *len])).unwrap();
    }
    let mut updates = Vec::new();
    loop {
        let polled = end.core.poll_chunk(key, &noop());
        updates.extend(end.sent().iter().filter(|sent| sent.stream == 1).map(Sent::code));
        if polled.is_pending() {
            return updates;
        }
    }
}

#[test]
fn a_small_part_of_a_window_is_kept_while_more_waits() {
    // The peer has nothing left: it is given quarters, however small the pieces are.
    assert_eq!(given_for(&[1 << 15; 32]), [1 << 18; 3]);
    assert_eq!(given_for(&[250_000, 12_144, 1 << 18, 1 << 18, 1 << 18]), [1 << 18; 3]);
    assert_eq!(given_for(&[250_000, 20_000, 1 << 18, 1 << 18, 254_288]), [270_000, 1 << 18, 516_432]);
}

#[test]
fn a_window_smaller_than_a_part_is_given_back_whole() {
    // Our SETTINGS with 1 MiB are not acknowledged: the peer has what RFC 9113 gives it.
    let mut end = End::new(&Http2Options::default(), true);
    end.feed(&[frame::PREFACE, &octets(frame::SETTINGS, 0, 0, &[]), &octets(frame::HEADERS, GOES_ON, 1, GET)].concat())
        .unwrap();
    let key = end.core.accept().unwrap().key;
    for len in [40_000, 25_535] {
        end.feed(&octets(frame::DATA, 0, 1, &vec![0; len])).unwrap();
    }
    while end.core.poll_chunk(key, &noop()).is_ready() {}
    let given: Vec<_> = end
        .sent()
        .iter()
        .filter(|sent| sent.kind == frame::WINDOW_UPDATE && sent.stream == 1)
        .map(Sent::code)
        .collect();
    assert_eq!(given, [65_535]);
}

#[test]
fn padding_is_given_back_and_counted() {
    let mut end = End::ready(&Http2Options::default(), true);
    end.feed(&octets(frame::HEADERS, GOES_ON, 1, GET)).unwrap();
    let key = end.core.accept().unwrap().key;
    let (before, window) = (end.core.recv_window, end.core.streams.get(key).unwrap().recv_window);
    end.feed(&octets(frame::DATA, 8, 1, &[&[100][..], b"data", &[0; 100]].concat())).unwrap();
    let stream = end.core.streams.get(key).unwrap();
    assert_eq!((window - stream.recv_window, stream.unannounced), (105, 101));
    assert_eq!((before - end.core.recv_window, end.core.unannounced), (105, 101));
}

/// Whether somebody was called.
#[derive(Default)]
struct Called(std::sync::atomic::AtomicBool);

impl std::task::Wake for Called {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Called {
    fn take(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}

/// Two streams in the line for the connection's window, the first of which has lost its own.
#[test]
fn who_cannot_go_on_holds_up_nobody_in_the_line() {
    let (mut end, keys) = answering(3);
    let mut left = Bytes::from(vec![0; 65_535]);
    assert!(end.core.poll_send(keys[2], &noop(), &mut left, false).is_ready());
    end.sent();
    let called: [Arc<Called>; 2] = Default::default();
    let wakers = called.each_ref().map(|called| Waker::from(called.clone()));
    let send = |end: &mut End, at: usize| {
        let mut data = Bytes::from_static(b"0123456789");
        end.core.poll_send(keys[at], &Context::from_waker(&wakers[at]), &mut data, false)
    };
    assert!(send(&mut end, 0).is_pending());
    end.feed(&[initial_window(0), window_update(3, 1000), window_update(0, 1000)].concat()).unwrap();
    assert!(called[0].take() && send(&mut end, 0).is_pending());
    assert!(send(&mut end, 1).is_pending(), "others stand in the line");
    assert!(called[1].take() && send(&mut end, 1).is_ready());
}
