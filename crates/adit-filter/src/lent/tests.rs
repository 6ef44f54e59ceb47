#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn each_wait_ends_at_its_own_deadline() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    // What is past is ready at once.
    for (seconds, over) in [(5, 5), (3, 5), (20, 20), (21, 21), (2, 21)] {
        poll_fn(|cx| alarm.poll_until(cx, at(start, seconds))).await;
        assert_eq!(start.elapsed().as_secs(), over);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_due_early_is_looked_at_when_it_fires() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    // Waits that end in time: the deadline moves on, the timer stays.
    for seconds in 10..15 {
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, at(start, seconds)))).await.is_pending());
        assert_eq!(alarm.timer.as_ref().unwrap().deadline(), at(start, 10));
    }
    poll_fn(|cx| alarm.poll_until(cx, at(start, 14))).await;
    assert_eq!(start.elapsed().as_secs(), 14);
}

struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_now_is_woken_also_where_another_waited_before() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    let wakers = [(); 2].map(|()| Arc::new(Woken(AtomicUsize::new(0))));
    for woken in &wakers {
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(alarm.poll_until(&mut cx, at(start, 10)).is_pending());
        assert!(alarm.poll_until(&mut cx, at(start, 10)).is_pending());
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(wakers.map(|woken| woken.0.load(Ordering::Relaxed)), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_task_without_budget_is_woken_too() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    let (send, mut recv) = tokio::sync::mpsc::unbounded_channel();
    (0..1000).for_each(|n| send.send(n).unwrap());
    poll_fn(|cx| {
        // Nothing is left of this task's budget.
        while recv.poll_recv(cx).is_ready() {}
        alarm.poll_until(cx, at(start, 1))
    })
    .await;
    assert_eq!(start.elapsed().as_secs(), 1);
}
