#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use super::*;

/// Takes at most so many bytes a call, and every other call nothing.
struct Slow(Arc<Mutex<(Vec<u8>, bool)>>, usize, bool);

impl ByteSink for Slow {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        self.2 = !self.2;
        if self.2 {
            let taken = data.split_to(data.len().min(self.1));
            self.0.lock().unwrap().0.extend_from_slice(&taken);
        }
        if !data.is_empty() || !self.2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.lock().unwrap().1 |= end;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, _: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Pending
    }

    fn reset(&mut self, _: ErrorCode) {}
}

impl SendStream for Slow {
    fn poll_send_trailers(&mut self, _: &mut Context<'_>, _: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.0.lock().unwrap().1 = true;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_leave_at_the_rate_whole_and_in_order_and_then_the_end() {
    let seen = Arc::new(Mutex::new((Vec::new(), false)));
    let mut sink = Throttled::new(Box::new(Slow(seen.clone(), 700, false)), NonZeroU32::new(20).unwrap());
    let body: Vec<u8> = (0..40 * 1024).map(|n| (n % 251) as u8).collect();
    let (start, mut data) = (Instant::now(), Bytes::from(body.clone()));
    poll_fn(|cx| sink.poll_send(cx, &mut data, true)).await.unwrap();
    // 40 KiB at 20 KiB/s; the first twentieth leaves at once.
    let elapsed = start.elapsed().as_millis();
    assert!((1_900..=2_050).contains(&elapsed), "{elapsed} ms");
    assert_eq!(*seen.lock().unwrap(), (body, true));
}

#[tokio::test(start_paused = true)]
async fn silence_saves_up_no_more_than_a_second() {
    let seen = Arc::new(Mutex::new((Vec::new(), false)));
    let mut sink = Throttled::new(Box::new(Slow(seen.clone(), usize::MAX, false)), NonZeroU32::new(20).unwrap());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (start, mut data) = (Instant::now(), Bytes::from(vec![0; 30 * 1024]));
    poll_fn(|cx| sink.poll_send(cx, &mut data, false)).await.unwrap();
    let elapsed = start.elapsed().as_millis();
    assert!((450..=550).contains(&elapsed), "{elapsed} ms");
    assert_eq!(seen.lock().unwrap().0.len(), 30 * 1024);
    let trailers = HeaderMap::new();
    poll_fn(|cx| sink.poll_send_trailers(cx, &trailers)).await.unwrap();
    assert!(seen.lock().unwrap().1);
}

/// Gives one chunk and then nothing, not even an end.
struct Once(Option<Bytes>);

impl adit_io::ByteSource for Once {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.take().map_or(Poll::Pending, |chunk| Poll::Ready(Some(Ok(chunk))))
    }

    fn stop(&mut self, _: ErrorCode) {}
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_has_no_room_at_first_gets_the_tail_of_a_message() {
    let seen = Arc::new(Mutex::new((Vec::new(), false)));
    let slow = |seen| Box::new(Slow(seen, usize::MAX, true));
    let sink = Throttled::new(slow(seen.clone()), NonZeroU32::new(20).unwrap());
    let down = adit_io::Side::new(Box::new(Once(Some("tail".into()))), slow(Arc::default()));
    let up = adit_io::Side::new(Box::new(Once(None)), Box::new(sink));
    let relay = adit_io::relay(down, up, adit_io::RelayOptions::default());
    assert!(tokio::time::timeout(Duration::from_secs(1), relay).await.is_err());
    assert_eq!(seen.lock().unwrap().0, b"tail");
}
