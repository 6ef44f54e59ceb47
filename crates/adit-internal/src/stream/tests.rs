//! What is left behind, and what a pair does when its ends go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Weak;
use std::task::Wake;

use super::*;

struct Flag;

impl Wake for Flag {
    fn wake(self: Arc<Self>) {}
}

/// Each way in which a pair may be left.
fn leave(state: usize, near: InternalStream, far: InternalStream, cx: &mut Context<'_>) {
    let (mut near_source, mut near_sink) = near.split();
    let (mut far_source, mut far_sink) = far.split();
    let mut data = Bytes::from_static(&[7; 4096]);
    match state {
        0 => {}
        1 => assert!(near_source.poll_chunk(cx, 1).is_pending()),
        2 => {
            // Blocked writer, parked reader, watched sinks.
            assert!(near_sink.poll_send(cx, &mut data, true).is_pending());
            assert!(near_source.poll_chunk(cx, 1).is_pending());
            assert!(far_sink.poll_stopped(cx).is_pending());
            assert!(near_sink.poll_stopped(cx).is_pending());
        }
        3 => {
            assert!(near_sink.poll_send(cx, &mut Bytes::new(), true).is_ready());
            assert!(far_sink.poll_send(cx, &mut Bytes::from_static(b"x"), true).is_ready());
        }
        4 => {
            near_sink.reset(ErrorCode::Internal);
            near_source.stop(ErrorCode::Internal);
            assert!(far_source.poll_chunk(cx, 1).is_ready());
        }
        5 => {
            drop(near_sink);
            drop(near_source);
            assert!(far_sink.poll_send(cx, &mut data, false).is_ready());
        }
        6 => {
            // Each end keeps one half of its own.
            drop(near_sink);
            drop(far_source);
            assert!(near_source.poll_chunk(cx, 1).is_pending());
            assert!(far_sink.poll_stopped(cx).is_pending());
        }
        _ => {
            assert!(far_sink.poll_send(cx, &mut data, false).is_pending());
            while near_source.poll_chunk(cx, 1).is_ready() {}
            assert!(far_sink.poll_send(cx, &mut data, false).is_pending());
            far_source.stop(ErrorCode::Cancel);
        }
    }
}

#[test]
fn ten_thousand_pairs_leave_nothing() {
    let flag = Arc::new(Flag);
    let waker = flag.clone().into();
    let mut cx = Context::from_waker(&waker);
    let links: Vec<Weak<Link>> = (0..10_000)
        .map(|i| {
            let (near, far) = pair(Limits::from_kb(1).unwrap());
            let link = Arc::downgrade(&near.source.link);
            leave(i % 8, near, far, &mut cx);
            link
        })
        .collect();
    assert!(links.iter().all(|link| link.strong_count() == 0));
    drop(waker);
    assert_eq!(Arc::strong_count(&flag), 1, "a waker was kept");
}

/// The link, both ends and the boxes of all halves; the floor of an idle hop.
#[test]
fn an_idle_pair_is_small() {
    let link = size_of::<Link>() + 2 * size_of::<usize>();
    let halves = 2 * (size_of::<InternalSource>() + size_of::<InternalSink>());
    assert!(link + halves <= 600, "{link} + {halves}");
}

#[test]
fn a_source_that_read_the_end_is_not_a_stop() {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let (near, far) = pair(Limits::default());
    let ((mut source, _sink), (_, mut far_sink)) = (near.split(), far.split());
    assert!(far_sink.poll_send(&mut cx, &mut Bytes::from_static(b"x"), true).is_ready());
    assert!(matches!(source.poll_chunk(&mut cx, 1), Poll::Ready(Some(Ok(_)))));
    assert!(matches!(source.poll_chunk(&mut cx, 1), Poll::Ready(None)));
    drop(source);
    assert!(far_sink.poll_stopped(&mut cx).is_pending());
}

#[test]
fn chunks_are_not_copied() {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let (near, far) = pair(Limits::default());
    let ((_, mut sink), (mut source, _)) = (near.split(), far.split());
    let chunk = Bytes::from(vec![1; 100_000]);
    let address = chunk.as_ptr();
    assert!(sink.poll_send(&mut cx, &mut chunk.clone(), false).is_ready());
    let Poll::Ready(Some(Ok(got))) = source.poll_chunk(&mut cx, 1) else { panic!("nothing") };
    assert_eq!((got.as_ptr(), got.len()), (address, 100_000));
}
