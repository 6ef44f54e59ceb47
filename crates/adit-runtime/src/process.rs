//! What the process sets up once: file descriptors, processors, the main runtime.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

/// Raises the soft limit of open files to the hard one. Gives the soft limit before and after; no limit is `u64::MAX`.
pub fn raise_fd_limit() -> io::Result<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum })?;
    }
    let after = getrlimit(Resource::Nofile);
    Ok((before.current.unwrap_or(u64::MAX), after.current.unwrap_or(u64::MAX)))
}

/// The processors that the calling thread may run on.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Binds the calling thread to one processor.
pub(crate) fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The runtime of the main thread: admin, DNS, timers, health checks. Drive it with `block_on`.
pub fn main_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().thread_name("main:blocking").max_blocking_threads(16).build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_fd_limit_ends_at_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let (before, after) = raise_fd_limit().unwrap();
        assert!(before <= after);
        assert_eq!(after, hard);
        assert_eq!(raise_fd_limit().unwrap(), (hard, hard));
    }

    #[test]
    fn a_thread_can_be_pinned() {
        let cpus = allowed_cpus().unwrap();
        let last = *cpus.last().unwrap();
        let seen = std::thread::spawn(move || pin_to(last).and_then(|()| allowed_cpus())).join().unwrap().unwrap();
        assert_eq!(seen, [last]);
    }
}
