#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn deliver(hub: &Hub, stream: u64, payload: &[u8]) -> bool {
    hub.deliver(datagram::encode(stream, &[payload])).unwrap()
}

fn early(hub: &Hub) -> (usize, usize) {
    let inner = lock(&hub.0);
    (inner.early.len(), inner.early_bytes)
}

#[test]
fn early_datagrams_are_bounded_for_each_stream() {
    let hub = Hub::default();
    for _ in 0..EARLY_PER_STREAM {
        assert!(deliver(&hub, 0, b"x"));
    }
    assert!(!deliver(&hub, 0, b"x"));
    assert!(deliver(&hub, 4, b"x"));
    assert_eq!(early(&hub).0, EARLY_PER_STREAM + 1);
}

#[test]
fn early_datagrams_are_bounded_for_the_connection() {
    let hub = Hub::default();
    for stream in 0..1000 {
        assert!(deliver(&hub, stream * 4, &[0; 1000]));
        assert!(early(&hub).1 <= EARLY_BYTES);
    }
    assert!(!deliver(&hub, 0, &[0; EARLY_BYTES]));
    let (count, bytes) = early(&hub);
    assert_eq!(bytes, count * (1000 + OVERHEAD));
}

#[test]
fn a_frame_without_a_stream_ends_the_connection() {
    assert_eq!(Hub::default().deliver(Bytes::new()).unwrap_err().0, code::DATAGRAM_ERROR);
}

#[test]
fn queues_are_bounded() {
    let mut queue = Queue::default();
    assert!((0..QUEUE).all(|_| queue.push(Bytes::from_static(b"x"))));
    assert!(!queue.push(Bytes::new()));
    let mut queue = Queue::default();
    let taken = (0..QUEUE).filter(|_| queue.push(vec![0; 16 << 10].into())).count();
    assert_eq!(taken, QUEUE_BYTES / ((16 << 10) + OVERHEAD));
}
