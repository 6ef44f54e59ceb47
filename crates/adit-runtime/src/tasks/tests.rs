#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::pending;
use std::sync::atomic::Ordering::SeqCst;

use super::*;

fn owner() -> Spawner {
    Spawner::new("test", Handle::current(), Drain::new(), None)
}

/// Says when it is dropped.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_heed_the_signal_end_in_order() {
    let spawner = owner();
    let log = Arc::new(Mutex::new(Vec::new()));
    for i in 0..100 {
        let (drain, log) = (spawner.drain().clone(), Arc::clone(&log));
        spawner.spawn(async move {
            drain.closing().await;
            tokio::time::sleep(Duration::from_millis(i)).await;
            lock(&log).push(i);
        });
    }
    tokio::task::yield_now().await;
    assert_eq!(spawner.live(), 100);
    let start = Instant::now();
    let report = spawner.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report, ShutdownReport::default());
    assert!(start.elapsed() < Duration::from_millis(150), "does not wait for the whole grace");
    assert_eq!(*lock(&log), (0..100).collect::<Vec<_>>());
    assert_eq!((spawner.live(), lock(&spawner.0.wakers).len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_task_is_dropped_when_the_grace_is_over() {
    let spawner = owner();
    let dropped = Arc::<AtomicUsize>::default();
    for _ in 0..3 {
        let on_drop = OnDrop(Arc::clone(&dropped));
        spawner.spawn(async move {
            let _on_drop = on_drop;
            pending::<()>().await;
        });
    }
    let drain = spawner.drain().clone();
    spawner.spawn(async move { drain.closing().await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    let report = spawner.shutdown(Duration::from_secs(5)).await;
    assert_eq!(report, ShutdownReport { aborted: 3, left: 0 });
    assert!(start.elapsed() >= Duration::from_secs(5) && start.elapsed() < Duration::from_millis(5_100));
    assert_eq!(dropped.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn without_tasks_nothing_is_waited_for() {
    let spawner = owner();
    let start = Instant::now();
    assert_eq!(spawner.shutdown(Duration::MAX).await, ShutdownReport::default());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn after_an_abort_nothing_starts() {
    let spawner = owner();
    let dropped = Arc::<AtomicUsize>::default();
    let run = |spawner: &Spawner| {
        let on_drop = OnDrop(Arc::clone(&dropped));
        spawner.spawn(async move {
            let _on_drop = on_drop;
            panic!("polled");
        })
    };
    let before = run(&spawner);
    spawner.abort();
    let after = run(&spawner);
    let child = run(&spawner.child("late", DrainType::Default));
    for task in [before, after, child] {
        task.await.unwrap();
    }
    assert_eq!((dropped.load(SeqCst), spawner.live(), spawner.panics()), (3, 0, 0));
}

#[tokio::test]
async fn a_panic_ends_one_task_and_is_counted() {
    let hooked = Arc::<AtomicUsize>::default();
    let hook: PanicHook = {
        let hooked = Arc::clone(&hooked);
        Arc::new(move |name| {
            assert_eq!(name, "listener");
            hooked.fetch_add(1, SeqCst);
        })
    };
    let worker = Spawner::new("worker", Handle::current(), Drain::new(), Some(hook));
    let listener = worker.child("listener", DrainType::Default);
    let survivor = listener.spawn(async { tokio::time::sleep(Duration::from_millis(20)).await });
    let panicked = listener.spawn(async { panic!("one connection's bug") });
    let later = listener.spawn(async {
        tokio::task::yield_now().await;
        panic!("another's, not at its first poll")
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(later.await.unwrap_err().is_panic());
    survivor.await.unwrap();
    assert_eq!((worker.panics(), hooked.load(SeqCst)), (2, 2));
    assert_eq!((worker.live(), listener.live()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_child_ends_alone_and_counts_for_its_parent() {
    let worker = owner();
    let listener = worker.child("listener", DrainType::Default);
    let connections = listener.child("connections", DrainType::ModifyOnly);
    for spawner in [&worker, &listener, &connections] {
        let drain = spawner.drain().clone();
        spawner.spawn(async move { drain.closing().await });
    }
    assert_eq!((worker.live(), listener.live(), connections.live()), (3, 2, 1));
    assert_eq!(listener.shutdown(Duration::from_secs(1)).await, ShutdownReport::default());
    assert_eq!((worker.live(), listener.live(), connections.live()), (1, 0, 0));
    assert!(!worker.drain().is_draining());

    let stuck = worker.child("stuck", DrainType::Default);
    stuck.spawn(pending());
    assert_eq!(worker.shutdown(Duration::from_secs(1)).await, ShutdownReport { aborted: 1, left: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_guard_is_waited_for() {
    let spawner = owner();
    let guard = spawner.guard();
    let waiting = tokio::spawn({
        let spawner = spawner.clone();
        async move { spawner.shutdown(Duration::from_secs(60)).await }
    });
    guard.drain().closing().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!waiting.is_finished());
    drop(guard);
    assert_eq!(waiting.await.unwrap(), ShutdownReport::default());

    let kept = spawner.guard();
    let start = Instant::now();
    assert_eq!(spawner.shutdown(Duration::from_secs(60)).await, ShutdownReport { aborted: 0, left: 1 });
    assert!(start.elapsed() <= Duration::from_secs(62), "bounded");
    drop(kept);
}

#[tokio::test]
async fn the_connection_is_gone_before_it_is_counted_out() {
    struct Connection(Spawner, Arc<AtomicUsize>);
    impl Drop for Connection {
        fn drop(&mut self) {
            self.1.store(self.0.live(), SeqCst);
        }
    }
    let spawner = owner();
    let seen = Arc::<AtomicUsize>::default();
    let connection = Connection(spawner.clone(), Arc::clone(&seen));
    spawner.spawn(async move {
        let _connection = connection;
        pending::<()>().await;
    });
    tokio::task::yield_now().await;
    spawner.shutdown(Duration::ZERO).await;
    assert_eq!(seen.load(SeqCst), 1);
}

#[test]
fn a_runtime_that_is_dropped_counts_its_tasks_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spawner = Spawner::new("test", runtime.handle().clone(), Drain::new(), None);
    spawner.spawn(pending());
    runtime.block_on(tokio::task::yield_now());
    assert_eq!(spawner.live(), 1);
    drop(runtime);
    assert_eq!(spawner.live(), 0);
    spawner.spawn(pending());
    assert_eq!(spawner.live(), 0, "a task for a runtime that is gone is dropped");
}

#[test]
fn a_task_costs_what_the_module_says() {
    assert_eq!(size_of::<Tracked<[u64; 4]>>(), 16 + 32);
    // Slab's own word is the rest of the 24 bytes at most.
    assert_eq!(size_of::<Option<Waker>>(), 16);
}
