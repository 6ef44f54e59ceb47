//! What a stream costs beside its payload, as Envoy 1.40 counts it (`tests/tests/differential/wire.rs` holds both together).

use bytes::Bytes;

use super::*;

const HEAD: u64 = frame::HEAD_LEN as u64;

/// A HEADERS frame's payload with an octet that says how much padding follows.
fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    [&[padding][..], payload, &vec![0; padding.into()]].concat()
}

#[test]
fn what_a_peer_sends_on_a_stream_counts_with_the_heads_of_its_frames() {
    const PADDED: u8 = 8;
    let mut end = End::ready(&Http2Options::default(), true);
    end.feed(&octets(frame::HEADERS, GOES_ON | PADDED, 1, &padded(GET, 20))).unwrap();
    let arrived = end.core.accept().unwrap();
    let mut fields = HEAD + 1 + GET.len() as u64 + 20;
    assert_eq!(arrived.meter.total_received(), (fields, fields));
    // Payload counts elsewhere.
    end.feed(&octets(frame::DATA, 0, 1, b"hello")).unwrap();
    end.feed(&octets(frame::DATA, PADDED, 1, &padded(b"hello", 7))).unwrap();
    let mut all = fields + HEAD + HEAD + 8;
    assert_eq!(arrived.meter.total_received(), (all, fields));
    // Neither do frames that are about the stream and no part of its message.
    end.feed(&octets(frame::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).unwrap();
    end.feed(&octets(frame::PRIORITY, 0, 1, &[0; 5])).unwrap();
    end.feed(&octets(0x20, 0, 1, b"unknown")).unwrap();
    assert_eq!(arrived.meter.total_received(), (all, fields));
    // Trailers: a literal without indexing.
    let trailers = [0, 1, b't', 1, b'1'];
    end.feed(&octets(frame::HEADERS, ENDS, 1, &trailers)).unwrap();
    fields += HEAD + trailers.len() as u64;
    all += HEAD + trailers.len() as u64;
    assert_eq!(arrived.meter.total_received(), (all, fields));
    assert_eq!(arrived.meter.total_sent(), (0, 0));
}

#[test]
fn a_block_in_pieces_counts_with_one_head() {
    let mut end = End::ready(&Http2Options::default(), true);
    let (first, rest) = GET.split_at(2);
    end.feed(&octets(frame::HEADERS, frame::END_STREAM, 1, first)).unwrap();
    end.feed(&octets(frame::CONTINUATION, 0, 1, &[])).unwrap();
    end.feed(&octets(frame::CONTINUATION, frame::END_HEADERS, 1, rest)).unwrap();
    let meter = end.core.accept().unwrap().meter;
    let cost = HEAD + GET.len() as u64;
    assert_eq!(meter.total_received(), (cost, cost));
    // And one that is sent.
    let mut end = End::ready(&Http2Options::default(), false);
    let mut request = request();
    request.headers.insert("x", http::HeaderValue::from_str(&"{".repeat(20_000)).unwrap());
    let key = end.core.open(&request, true).unwrap();
    let sent = end.sent();
    assert_eq!(sent.iter().map(|sent| sent.kind).collect::<Vec<_>>(), [frame::HEADERS, frame::CONTINUATION]);
    let cost = HEAD + sent.iter().map(|sent| sent.payload.len() as u64).sum::<u64>();
    assert_eq!(end.core.meter(key).unwrap().total_sent(), (cost, cost));
}

#[test]
fn a_reset_that_comes_counts() {
    let mut end = End::ready(&Http2Options::default(), true);
    end.feed(&octets(frame::HEADERS, GOES_ON, 1, GET)).unwrap();
    let meter = end.core.accept().unwrap().meter;
    let fields = HEAD + GET.len() as u64;
    for _ in 0..2 {
        end.feed(&octets(frame::RST_STREAM, 0, 1, &[0, 0, 0, 8])).unwrap();
        assert_eq!(meter.total_received(), (fields + HEAD + 4, fields));
    }
    assert_eq!(meter.total_sent(), (0, 0));
}

/// Envoy writes its line before it resets, so that most of them are in no count: ours are in none.
#[test]
fn a_reset_that_is_sent_does_not_count() {
    let mut end = End::ready(&Http2Options::default(), false);
    let key = end.core.open(&request(), false).unwrap();
    let meter = end.core.meter(key).unwrap();
    let before = meter.total_sent();
    end.core.send_reset(key, ErrorCode::Cancel);
    assert!(end.sent().iter().any(|sent| sent.kind == frame::RST_STREAM));
    assert_eq!(meter.total_sent(), before);
}

/// What leaves is counted when it is taken from above, so that a line which is written then has all of it.
#[test]
fn what_is_sent_counts_as_it_is_framed() {
    let options = Http2Options { initial_stream_window_size: Some(65_535), ..Http2Options::default() };
    let mut end = End::ready(&options, true);
    end.feed(&octets(frame::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).unwrap();
    end.feed(&octets(frame::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])).unwrap();
    end.feed(&octets(frame::HEADERS, GOES_ON, 1, GET)).unwrap();
    let Arrived { key, meter, .. } = end.core.accept().unwrap();
    end.sent();
    let none = http::HeaderMap::new();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("t", http::HeaderValue::from_static("1"));
    end.core.respond(key, http::StatusCode::EARLY_HINTS, &trailers, false).unwrap();
    end.core.respond(key, http::StatusCode::OK, &none, false).unwrap();
    for size in [5, 1025, 40_000] {
        assert!(end.core.poll_send(key, &noop(), &mut Bytes::from(vec![0; size]), false).is_ready());
    }
    // A window that is given back for content that went onward.
    for _ in 0..3 {
        end.feed(&octets(frame::DATA, 0, 1, &[0; 16_000])).unwrap();
        assert!(end.core.poll_chunk(key, &noop()).is_ready());
    }
    assert!(end.core.poll_chunk(key, &noop()).is_pending());
    let framed = meter.total_sent();
    end.core.send_trailers(key, trailers).unwrap();
    assert_eq!(meter.total_sent(), framed);
    let sent = end.sent();
    let cost = |kinds: &[u8]| {
        let of = sent.iter().filter(|sent| sent.stream == 1 && kinds.contains(&sent.kind));
        of.map(|sent| HEAD + if sent.kind == frame::DATA { 0 } else { sent.payload.len() as u64 }).sum::<u64>()
    };
    let kinds = [frame::DATA, frame::HEADERS, frame::WINDOW_UPDATE];
    assert!(sent.iter().filter(|sent| sent.kind == frame::DATA).count() >= 5);
    assert!(sent.iter().any(|sent| sent.kind == frame::WINDOW_UPDATE && sent.stream == 1));
    assert_eq!(meter.total_sent(), (cost(&kinds), cost(&[frame::HEADERS])));
}

/// An end behind all that was sent is a frame of its own; one that goes with the last octets is none.
#[test]
fn an_end_of_its_own_counts() {
    for is_server in [true, false] {
        for (alone, end_cost) in [(true, HEAD), (false, 0)] {
            let mut end = End::ready(&Http2Options::default(), is_server);
            let (key, meter) = if is_server {
                end.feed(&octets(frame::HEADERS, ENDS, 1, GET)).unwrap();
                let Arrived { key, meter, .. } = end.core.accept().unwrap();
                end.core.respond(key, http::StatusCode::OK, &http::HeaderMap::new(), false).unwrap();
                (key, meter)
            } else {
                let key = end.core.open(&request(), false).unwrap();
                (key, end.core.meter(key).unwrap())
            };
            let (before, _) = meter.total_sent();
            assert!(end.core.poll_send(key, &noop(), &mut Bytes::from_static(b"x"), !alone).is_ready());
            if alone {
                end.sent();
                end.core.end(key);
            }
            assert_eq!(meter.total_sent().0 - before, HEAD + end_cost, "server {is_server}, alone {alone}");
            let frames = end.sent().iter().filter(|sent| sent.kind == frame::DATA).count();
            assert_eq!(frames, 1, "server {is_server}, alone {alone}");
        }
    }
}

/// A tunnel that stands without a log keeps no meter, and the stream keeps none either.
#[test]
fn a_meter_that_nobody_reads_is_let_go() {
    let mut end = End::ready(&Http2Options::default(), true);
    end.feed(&octets(frame::HEADERS, GOES_ON, 1, GET)).unwrap();
    let Arrived { key, meter, .. } = end.core.accept().unwrap();
    end.feed(&octets(frame::DATA, 0, 1, b"x")).unwrap();
    assert!(end.core.meter(key).is_some());
    let weak = Arc::downgrade(&meter);
    drop(meter);
    end.feed(&octets(frame::DATA, 0, 1, b"x")).unwrap();
    assert!(end.core.meter(key).is_none() && weak.upgrade().is_none());
}
