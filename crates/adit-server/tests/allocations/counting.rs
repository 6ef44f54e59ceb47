//! An allocator that counts what the worker's thread asks for.
#![allow(unsafe_code)] // `GlobalAlloc` is an unsafe trait.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator, counted on the worker's thread.
pub struct Counting;

static ALLOCATIONS: AtomicI64 = AtomicI64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
/// The worker runs and has its name.
static STARTED: AtomicBool = AtomicBool::new(false);
static SHOWING: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, PartialEq)]
enum Thread {
    Unknown,
    Worker,
    Other,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown) };
    /// What shows an allocation allocates too.
    static IN_SHOW: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: all of it is the system's allocator; what is added allocates nothing, but for `show`, which does not enter itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: as the caller says.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count(allocations: i64, bytes: i64) {
    if !STARTED.load(Ordering::Relaxed) || !on_worker() || IN_SHOW.get() {
        return;
    }
    ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
    LIVE.fetch_add(bytes, Ordering::Relaxed);
    if allocations > 0 && SHOWING.load(Ordering::Relaxed) {
        show(bytes);
    }
}

fn on_worker() -> bool {
    if THREAD.get() == Thread::Unknown {
        let mut name = [0_u8; 16];
        // SAFETY: the kernel writes at most 16 bytes.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        THREAD.set(if name.starts_with(b"wrk:worker_") { Thread::Worker } else { Thread::Other });
    }
    THREAD.get() == Thread::Worker
}

/// The frames of this repository: each is a line with a function and one with its place.
fn show(bytes: i64) {
    IN_SHOW.set(true);
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    let lines: Vec<&str> = trace.lines().map(str::trim).collect();
    let mut text = format!("{bytes} bytes\n");
    for frame in lines.windows(2) {
        if let [function, place] = frame
            && place.starts_with("at ")
            && place.contains("/crates/adit-")
            && !place.contains("/tests/allocations/")
        {
            text.push_str(&format!("    {place}  {function}\n"));
        }
    }
    eprint!("{text}");
    IN_SHOW.set(false);
}

/// From here on the worker is known by its thread's name.
pub fn started() {
    STARTED.store(true, Ordering::Relaxed);
}

/// With `ADIT_SHOW_ALLOCATIONS`, writes what the worker allocates meanwhile.
pub fn shown(what: &str, work: impl FnOnce()) {
    if std::env::var_os("ADIT_SHOW_ALLOCATIONS").is_none() {
        return work();
    }
    settle();
    eprintln!("\n---- {what}");
    SHOWING.store(true, Ordering::Relaxed);
    work();
    settle();
    SHOWING.store(false, Ordering::Relaxed);
}

/// What the worker allocates from one moment to another.
pub struct Measure {
    allocations: i64,
    live: i64,
}

impl Measure {
    /// Begins when the worker has nothing left to do.
    pub fn start() -> Self {
        let (allocations, live) = settle();
        Self { allocations, live }
    }

    /// Allocations and bytes, when the worker has nothing left to do.
    pub fn stop(self) -> (i64, i64) {
        let (allocations, live) = settle();
        (allocations - self.allocations, live - self.live)
    }
}

/// Waits until the worker has asked for nothing and given nothing back for a while.
fn settle() -> (i64, i64) {
    let now = || (ALLOCATIONS.load(Ordering::Relaxed), LIVE.load(Ordering::Relaxed));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut before = now();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let after = now();
        if after == before {
            return after;
        }
        assert!(Instant::now() < deadline, "the worker does not come to rest");
        before = after;
    }
}
