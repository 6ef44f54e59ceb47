//! Worker threads, the tasks on them, and how they end (Floor F2).
//!
//! What it is: [`Workers`] are N threads, each with a current-thread tokio runtime. Every task on them belongs to a
//! [`Spawner`], which counts it and can end it. A [`Drain`] tells tasks that the process or a listener goes away: first
//! softly (`Draining`: no new work, answers say `connection: close`), then for good (`Closing`: tunnels end now).
//!
//! What it deliberately does not know: sockets, connections, HTTP, configuration, files, signals.
//!
//! Read first: [`Workers`], [`Worker`], [`Spawner`], [`Drain`].
//!
//! # How the process ends
//!
//! ```text
//! Drain::begin       tasks see is_draining(); listeners stop when they like; live tunnels stay
//! Spawner::shutdown  Drain::close -> every Closing future is ready -> tasks end in order (peers see an end)
//!                    -> the grace is over -> what is left is dropped at its next poll -> at most a second more
//! Workers::shutdown  the same on all workers at once, then the threads end
//! ```
//!
//! # What a task costs
//!
//! A task spawned here is one allocation, tokio's own, with 16 bytes in front of the future, and 24 bytes in the
//! spawner's table. Waiting for [`Drain::closing`] costs 24 bytes in the future and 16 in the drain's table; polling it
//! again is one load and one comparison.

mod drain;
mod process;
mod tasks;
mod workers;

pub use drain::{Begin, Closing, Drain, DrainReason, DrainState, DrainStrategy, DrainType, Draining};
pub use process::{allowed_cpus, main_runtime, raise_fd_limit};
pub use tasks::{DrainGuard, PanicHook, ShutdownReport, Spawner};
pub use workers::{StartHook, Worker, WorkerLost, Workers, WorkersOptions};
