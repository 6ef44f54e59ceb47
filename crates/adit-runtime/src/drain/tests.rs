#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn begin_at(now: Instant, strategy: DrainStrategy) -> Begin {
    Begin { reason: DrainReason::Admin, now, drain_time: Duration::from_secs(600), strategy }
}

fn begin() -> Begin {
    begin_at(Instant::now(), DrainStrategy::Gradual)
}

fn poll(future: &mut (impl Future<Output = ()> + Unpin), waker: &Arc<Count>) -> bool {
    let waker = Waker::from(Arc::clone(waker));
    Pin::new(future).poll(&mut Context::from_waker(&waker)).is_ready()
}

fn waiting(drain: &Drain) -> (usize, usize) {
    let waiters = lock(&drain.0.waiters);
    (waiters.draining.len(), waiters.closing.len())
}

#[test]
fn states_move_forward_only() {
    let drain = Drain::new();
    assert_eq!(drain.state(), DrainState::Serving);
    assert_eq!((drain.reason(), drain.deadline()), (None, None));
    let now = Instant::now();
    drain.begin(begin_at(now, DrainStrategy::Gradual));
    assert_eq!((drain.state(), drain.reason()), (DrainState::Draining, Some(DrainReason::Admin)));
    drain.begin(Begin { reason: DrainReason::Shutdown, ..begin() });
    assert_eq!(drain.reason(), Some(DrainReason::Admin), "the first one counts");
    assert_eq!(drain.deadline(), Some(now + Duration::from_secs(600)));
    drain.close();
    assert!(drain.is_draining() && drain.is_closing());
    drain.begin(begin());
    assert_eq!(drain.state(), DrainState::Closing);

    let straight = Drain::new();
    straight.close();
    assert_eq!((straight.state(), straight.reason()), (DrainState::Closing, None));
}

#[test]
fn waiters_are_woken_for_their_own_state_and_once() {
    let drain = Drain::new();
    let (a, b) = (Arc::<Count>::default(), Arc::<Count>::default());
    let (mut draining, mut closing) = (drain.draining(), drain.closing());
    for _ in 0..3 {
        assert!(!poll(&mut draining, &a) && !poll(&mut closing, &b));
    }
    assert_eq!(waiting(&drain), (1, 1), "polling again registers nothing new");

    drain.begin(begin());
    assert_eq!((a.0.load(SeqCst), b.0.load(SeqCst)), (1, 0));
    assert!(poll(&mut draining, &a) && poll(&mut draining, &a), "stays ready");
    assert!(!poll(&mut closing, &b));

    drain.close();
    assert_eq!((a.0.load(SeqCst), b.0.load(SeqCst)), (1, 1));
    assert!(poll(&mut closing, &b));
    assert_eq!(waiting(&drain), (0, 0));
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let drain = Drain::new();
    let (a, b) = (Arc::<Count>::default(), Arc::<Count>::default());
    let mut closing = drain.closing();
    assert!(!poll(&mut closing, &a) && !poll(&mut closing, &b));
    drain.close();
    assert_eq!((a.0.load(SeqCst), b.0.load(SeqCst)), (0, 1));
}

#[test]
fn a_dropped_waiter_leaves_nothing_behind() {
    let drain = Drain::new();
    let waker = Arc::<Count>::default();
    let mut futures: Vec<_> = (0..10).map(|_| drain.closing()).collect();
    for future in &mut futures {
        assert!(!poll(future, &waker));
    }
    futures.drain(..9);
    assert_eq!(waiting(&drain), (0, 1));
    drain.close();
    // A waiter of after the transition must not disturb, nor be disturbed by, the old ones' keys.
    let mut late = drain.closing();
    assert!(poll(&mut late, &waker));
    drop(futures);
    assert_eq!(waiter_counts(&waker), 1);
}

fn waiter_counts(waker: &Arc<Count>) -> usize {
    waker.0.load(SeqCst)
}

#[test]
fn children_follow_and_can_go_alone() {
    let root = Drain::new();
    let worker = root.child(DrainType::Default);
    let listener = worker.child(DrainType::Default);
    let other = worker.child(DrainType::ModifyOnly);

    listener.begin(Begin { reason: DrainReason::Modified, ..begin() });
    assert!(listener.is_draining() && !worker.is_draining() && !root.is_draining());

    root.begin(begin());
    assert!(worker.is_draining());
    assert_eq!(listener.reason(), Some(DrainReason::Modified));
    assert!(!other.is_draining(), "MODIFY_ONLY");
    let late = worker.child(DrainType::Default);
    assert!(late.is_draining());
    assert!(!worker.child(DrainType::ModifyOnly).is_draining());

    root.close();
    assert!(listener.is_closing() && other.is_closing() && late.is_closing());
    assert!(worker.child(DrainType::ModifyOnly).is_closing());
}

#[test]
fn dead_children_are_forgotten() {
    let root = Drain::new();
    for _ in 0..100 {
        drop(root.child(DrainType::Default));
    }
    assert!(lock(&root.0.children).len() <= 1);
}

#[test]
fn a_failed_health_check_asks_to_close_and_is_undone() {
    let root = Drain::new();
    let (plain, modify_only) = (root.child(DrainType::Default), root.child(DrainType::ModifyOnly));
    let now = Instant::now();
    root.set_health_failed(true);
    assert!(root.should_close(now) && plain.should_close(now) && !modify_only.should_close(now));
    assert!(!plain.is_draining());
    root.set_health_failed(false);
    assert!(!root.should_close(now) && !plain.should_close(now));
}

#[test]
fn gradual_grows_from_never_to_always() {
    let drain = Drain::new();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!drain.should_close_with(at(0), || 0.0), "not draining");
    drain.begin(begin_at(start, DrainStrategy::Gradual));
    assert!(!drain.should_close_with(at(0), || 0.0));
    assert!(drain.should_close_with(at(60), || 0.09) && !drain.should_close_with(at(60), || 0.11));
    assert!(drain.should_close_with(at(540), || 0.89) && !drain.should_close_with(at(540), || 0.91));
    assert!(drain.should_close_with(at(600), || 0.999_999));
    let asked = (0..10_000).filter(|_| drain.should_close(at(300))).count();
    assert!((4_500..5_500).contains(&asked), "{asked} of 10000 at half time");
    drain.close();
    assert!(drain.should_close_with(at(0), || 0.99));
}

#[test]
fn immediate_asks_from_the_start() {
    let drain = Drain::new();
    let start = Instant::now();
    drain.begin(begin_at(start, DrainStrategy::Immediate));
    assert!(drain.should_close_with(start, || 0.99));
    let none = Drain::new();
    none.begin(Begin { drain_time: Duration::ZERO, ..begin_at(start, DrainStrategy::Gradual) });
    assert!(none.should_close_with(start, || 0.99));
}

#[test]
fn waiting_is_small() {
    assert!(size_of::<Closing>() <= 24);
    assert_eq!(size_of::<Waker>(), 16);
}

#[test]
fn no_waiter_is_lost_in_a_race() {
    for _ in 0..200 {
        let root = Drain::new();
        let closer = root.clone();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let child = root.child(DrainType::Default);
                std::thread::spawn(move || {
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(child.closing());
                })
            })
            .collect();
        let late = std::thread::spawn({
            let root = root.clone();
            move || root.child(DrainType::Default)
        });
        closer.close();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(late.join().unwrap().is_closing());
    }
}
