//! How much memory the process has, and what a peak left behind of it.

use std::time::{Duration, Instant};

use adit_runtime::{Closing, Spawner};

/// How often tasks are counted.
const TICK: Duration = Duration::from_secs(1);
/// A peak below this many tasks is not worth it.
const WORTH_IT: usize = 1000;
/// From one time to the next, at least.
const PAUSE: Duration = Duration::from_secs(10);

/// Resident bytes, as the kernel counts them; 0 where it does not tell.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}

/// Gives free memory back to the kernel whenever half of a large number of connections and streams is gone: the allocator
/// keeps what lies between blocks that are still in use, so that a peak would be paid for until the process ends.
pub(crate) async fn give_back(workers: Vec<Spawner>, closing: Closing) {
    tokio::pin!(closing);
    let mut peak = Peak::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = &mut closing => return,
        }
        if peak.is_over(Instant::now(), workers.iter().map(Spawner::live).sum()) {
            let before = resident();
            // Takes milliseconds, in which this thread would serve nobody.
            let _ = tokio::task::spawn_blocking(trim).await;
            tracing::debug!(before, after = resident(), "memory of a peak is given back");
        }
    }
}

/// The most tasks there were since memory was last given back.
#[derive(Debug, Default)]
struct Peak {
    tasks: usize,
    /// Those of the last look.
    before: usize,
    last: Option<Instant>,
}

impl Peak {
    /// Whether the moment has come, with this many tasks: the peak was worth it, half of it is gone, no more are going
    /// just now, and the last time is a while ago. The next peak then counts from here.
    fn is_over(&mut self, now: Instant, tasks: usize) -> bool {
        self.tasks = self.tasks.max(tasks);
        let falling = tasks.saturating_add(self.tasks / 20) < std::mem::replace(&mut self.before, tasks);
        let paused = self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        if self.tasks < WORTH_IT || tasks > self.tasks / 2 || falling || paused {
            return false;
        }
        *self = Self { tasks, before: tasks, last: Some(now) };
        true
    }
}

/// Free memory that an allocator's heap keeps at its end: what bulk tunnels have on their way.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 16 << 20;
/// Blocks from here on come from the kernel one by one.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 4 << 20;

/// Lets the allocator keep the blocks of bulk tunnels, which come and go by the thousand in a second. By itself it gives
/// each back to the kernel, which has to find and clear the next: a quarter of what such a tunnel costs over HTTP/2. To be
/// called before there are other threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator of the C library has no safe interface")]
pub(crate) fn keep_blocks() {
    // SAFETY: these take no pointer.
    unsafe {
        // Small blocks join with what is free beside them: most of what is left beside a task or a socket's registration, which
        // are aligned to 128 bytes, is of a size that nobody asks for.
        libc::mallopt(libc::M_MXFAST, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Other C libraries cannot be asked.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep_blocks() {}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator of the C library has no safe interface")]
fn trim() {
    // SAFETY: it takes no pointer, and the allocator's own locks guard what it changes.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries give memory back by themselves, or cannot be asked.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests;
