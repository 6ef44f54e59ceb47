//! Labs beside each other: they wait more than they compute.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};

/// How many labs of one test run at once; each is two proxies.
const AT_ONCE: usize = 3;

/// Runs each of these, and gives all that they report, in their order.
pub fn each<T: Sync>(all: &[T], run: impl Fn(&T) -> String + Sync) -> String {
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(vec![String::new(); all.len()]));
    // A lab knows its test by the name of its thread.
    let name = thread::current().name().unwrap_or_default().to_owned();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(all.len()) {
            let work = || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = all.get(index) else { return };
                    let report = run(one);
                    reports.lock().expect("reports")[index] = report;
                }
            };
            Builder::new().name(name.clone()).spawn_scoped(scope, work).expect("a thread");
        }
    });
    reports.into_inner().expect("reports").concat()
}
