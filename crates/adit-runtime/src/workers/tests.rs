#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant as StdInstant;

use super::*;
use crate::main_runtime;

fn start(count: usize) -> Workers {
    Workers::start(WorkersOptions { count, ..WorkersOptions::default() }).unwrap()
}

/// For what a worker's thread does behind the answer that a test waits for.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = StdInstant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    main_runtime().unwrap().block_on(future)
}

#[test]
fn each_worker_is_a_thread_of_its_own() {
    let started = Arc::new(Mutex::new(HashSet::new()));
    let on_start: StartHook = {
        let started = Arc::clone(&started);
        Arc::new(move |index| {
            started.lock().unwrap().insert((index, thread::current().id()));
        })
    };
    let workers =
        Workers::start(WorkersOptions { count: 3, on_start: Some(on_start), ..WorkersOptions::default() }).unwrap();
    let seen = block_on(workers.run_on_each(|worker| async move {
        tokio::task::yield_now().await;
        (worker.index(), thread::current().id(), thread::current().name().map(str::to_owned))
    }))
    .unwrap();
    assert_eq!(seen.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(seen[2].2.as_deref(), Some("wrk:worker_2"));
    assert_eq!(seen.iter().map(|(index, id, _)| (*index, *id)).collect::<HashSet<_>>(), *started.lock().unwrap());
    assert_eq!(block_on(workers.shutdown(Duration::from_secs(30))), ShutdownReport::default());
}

#[test]
fn pinned_workers_run_on_one_processor() {
    let workers = Workers::start(WorkersOptions { count: 2, pin_cpus: true, ..WorkersOptions::default() }).unwrap();
    let cpus = block_on(workers.run_on_each(|_| async { process::allowed_cpus().unwrap() })).unwrap();
    assert!(cpus.iter().all(|cpus| cpus.len() == 1), "{cpus:?}");
}

#[test]
fn no_worker_is_one_worker() {
    assert_eq!(start(0).count(), 1);
}

#[test]
fn tasks_come_from_any_thread_and_use_the_workers_runtime() {
    let workers = start(2);
    let worker = workers.get(1).unwrap().clone();
    let (tx, rx) = mpsc::channel();
    worker.spawn(move || {
        // A timer and a socket need the runtime's context already here.
        let sleep = tokio::time::sleep(Duration::from_millis(1));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
        async move {
            sleep.await;
            tx.send((thread::current().name().map(str::to_owned), socket.local_addr().is_ok())).unwrap();
        }
    });
    assert_eq!(rx.recv_timeout(Duration::from_secs(30)).unwrap(), (Some("wrk:worker_1".to_owned()), true));
    assert!(workers.get(2).is_none());
}

#[test]
fn a_panicking_task_does_not_kill_its_worker() {
    let hooked = Arc::<AtomicUsize>::default();
    let on_panic: PanicHook = {
        let hooked = Arc::clone(&hooked);
        Arc::new(move |_| {
            hooked.fetch_add(1, SeqCst);
        })
    };
    let workers =
        Workers::start(WorkersOptions { count: 1, on_panic: Some(on_panic), ..WorkersOptions::default() }).unwrap();
    let worker = workers.get(0).unwrap();
    block_on(async {
        let neighbour = worker.spawn(|| tokio::time::sleep(Duration::from_millis(20)));
        assert!(worker.spawner().spawn(async { panic!("a bug") }).await.unwrap_err().is_panic());
        neighbour.await.unwrap();
        let lost = workers.run_on_each(|_| async { panic!("a bug in a set-up function") }).await;
        assert!(matches!(lost, Err::<Vec<()>, _>(WorkerLost { index: 0, panicked: true })));
        assert_eq!(workers.run_on_each(|_| async { 7 }).await.unwrap(), [7]);
    });
    eventually("no task is left", || workers.live() == 0);
    assert_eq!((workers.panics(), hooked.load(SeqCst)), (1, 1));
}

#[test]
fn shutdown_lets_tasks_end_and_then_the_threads() {
    let drain = Drain::new();
    let workers =
        Workers::start(WorkersOptions { count: 2, drain: drain.clone(), ..WorkersOptions::default() }).unwrap();
    let ended = Arc::<AtomicUsize>::default();
    for worker in workers.iter() {
        let (drain, ended) = (worker.drain().clone(), Arc::clone(&ended));
        worker.spawner().spawn(async move {
            drain.closing().await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            ended.fetch_add(1, SeqCst);
        });
    }
    let worker = workers.get(0).unwrap().clone();
    let report = block_on(workers.shutdown(Duration::from_secs(30)));
    assert_eq!((report, ended.load(SeqCst)), (ShutdownReport::default(), 2));
    assert!(!drain.is_draining(), "the process's own signal belongs to its owner");
    // A late task is dropped, not leaked, and its handle says so.
    assert!(block_on(worker.spawner().spawn(pending())).is_err());
    eventually("no task is left", || worker.spawner().live() == 0);
}

#[test]
fn a_stuck_task_and_a_blocked_thread_do_not_hold_the_shutdown() {
    let workers = start(2);
    let began = Arc::<AtomicUsize>::default();
    workers.get(0).unwrap().spawner().spawn(pending());
    let blocked = Arc::clone(&began);
    workers.get(1).unwrap().spawner().spawn(async move {
        blocked.fetch_add(1, SeqCst);
        thread::sleep(Duration::from_secs(60));
    });
    while began.load(SeqCst) == 0 {
        thread::yield_now();
    }
    let start = StdInstant::now();
    let report = block_on(workers.shutdown(Duration::from_millis(100)));
    assert_eq!(report, ShutdownReport { aborted: 1, left: 1 });
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn dropped_workers_end_and_drop_their_tasks() {
    let workers = start(1);
    let spawner = workers.get(0).unwrap().spawner().clone();
    spawner.spawn(pending());
    drop(workers);
    block_on(async {
        tokio::time::timeout(Duration::from_secs(30), spawner.wait_idle()).await.unwrap();
    });
}
