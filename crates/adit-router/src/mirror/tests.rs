#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn tap(limit: usize) -> (Tap, mpsc::Receiver<Part>) {
    let (queue, parts) = mpsc::channel(QUEUE);
    (Tap { queue: Some(queue), held: Arc::default(), limit }, parts)
}

fn bytes(parts: &mut mpsc::Receiver<Part>) -> usize {
    let mut bytes = 0;
    while let Ok(part) = parts.try_recv() {
        if let Part::Data(data) = part {
            bytes += data.len();
        }
    }
    bytes
}

#[test]
fn a_queued_chunk_holds_no_more_than_its_own_bytes() {
    let (mut tap, mut parts) = tap(100);
    let buffer = Bytes::from(vec![7; 64 << 10]);
    let view = buffer.slice(10..20);
    tap.data(&view);
    drop(view);
    assert!(buffer.is_unique(), "the mirror holds the whole buffer");
    assert_eq!(bytes(&mut parts), 10);
}

#[test]
fn a_mirror_that_cannot_keep_up_is_given_up_and_holds_no_more_than_the_limit() {
    let (mut tap, mut parts) = tap(100);
    for _ in 0..50 {
        tap.data(&Bytes::from(vec![7; 30]));
    }
    tap.end(None);
    assert!(tap.queue.is_none());
    assert_eq!(bytes(&mut parts), 90);
    assert!(matches!(parts.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
}
