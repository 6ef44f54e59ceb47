//! The worker threads.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::drain::{Drain, DrainType};
use crate::process;
use crate::tasks::{PanicHook, ShutdownReport, Spawner, deadline_in};

/// Called on each worker thread with its index before anything runs there.
pub type StartHook = Arc<dyn Fn(usize) + Send + Sync>;

/// Blocking calls (name lookups) that one worker may have under way; more wait.
const MAX_BLOCKING_THREADS: usize = 16;
/// How long the end of a worker's runtime waits for blocking calls.
const BLOCKING_GRACE: Duration = Duration::from_millis(500);
/// How long the end of a worker's thread is waited for.
const THREAD_GRACE: Duration = Duration::from_secs(2);

/// How the workers are made.
#[derive(Clone, Default)]
pub struct WorkersOptions {
    /// Number of workers (`--concurrency`); 0 counts as 1.
    pub count: usize,
    /// Whether worker i is bound to the i-th processor that the process may use.
    pub pin_cpus: bool,
    /// The signal that the workers follow.
    pub drain: Drain,
    /// Runs on each worker thread first.
    pub on_start: Option<StartHook>,
    /// Runs when a task of a worker panicked.
    pub on_panic: Option<PanicHook>,
}

/// N threads, each with a current-thread runtime. Dropped without [`Workers::shutdown`], they end by themselves and
/// drop their tasks.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    worker: Worker,
    join: thread::JoinHandle<()>,
    /// Dropped: the thread ends.
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// One worker: a handle that any thread may use, and what tasks on the worker get as their context.
#[derive(Clone, Debug)]
pub struct Worker {
    index: usize,
    spawner: Spawner,
}

/// A function given to a worker did not come to its end: it panicked, or the worker has ended.
#[derive(Debug, thiserror::Error)]
#[error("worker {index}: {}", if *.panicked { "the task panicked" } else { "the worker has ended" })]
pub struct WorkerLost {
    /// Which worker.
    pub index: usize,
    /// Whether it was a panic.
    pub panicked: bool,
}

impl Workers {
    /// Starts the threads; returns once all run. Fails if a thread or a runtime cannot be made; a worker that cannot
    /// be pinned runs unpinned, with a warning.
    pub fn start(options: WorkersOptions) -> io::Result<Self> {
        let cpus = if options.pin_cpus { process::allowed_cpus()? } else { Vec::new() };
        let threads = (0..options.count.max(1)).map(|index| {
            let cpu = cpus.get(index.checked_rem(cpus.len()).unwrap_or(0)).copied();
            Thread::start(index, cpu, &options)
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()? })
    }

    /// How many there are: at least one.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// The worker with this index.
    pub fn get(&self, index: usize) -> Option<&Worker> {
        self.threads.get(index).map(|thread| &thread.worker)
    }

    /// All workers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Worker> {
        self.threads.iter().map(|thread| &thread.worker)
    }

    /// Tasks that panicked since the start, on all workers.
    pub fn panics(&self) -> u64 {
        self.iter().map(|worker| worker.spawner.panics()).sum()
    }

    /// Tasks alive on all workers.
    pub fn live(&self) -> usize {
        self.iter().map(|worker| worker.spawner.live()).sum()
    }

    /// Runs `function` on every worker at once and gives the results in the order of the workers. Fails with the
    /// first worker that did not finish.
    pub async fn run_on_each<T, F, Fut>(&self, function: F) -> Result<Vec<T>, WorkerLost>
    where
        F: Fn(Worker) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let function = Arc::new(function);
        let running: Vec<_> = self
            .iter()
            .map(|worker| {
                let function = Arc::clone(&function);
                (worker.index, worker.run(move |worker| function(worker)))
            })
            .collect();
        let mut results = Vec::with_capacity(running.len());
        for (index, task) in running {
            let result = task.await.map_err(|error| WorkerLost { index, panicked: error.is_panic() })?;
            results.push(result);
        }
        Ok(results)
    }

    /// Closes the workers' drains, waits up to `grace` for their tasks to end, drops the rest, ends the threads.
    /// Bounded: about three seconds more than the grace. Call it on a runtime that is not one of the workers'.
    pub async fn shutdown(self, grace: Duration) -> ShutdownReport {
        let spawners: Vec<_> = self.iter().map(|worker| worker.spawner.clone()).collect();
        for spawner in &spawners {
            spawner.drain().close();
        }
        let report = Spawner::shutdown_all(&spawners, deadline_in(grace)).await;
        let deadline = Instant::now() + THREAD_GRACE;
        // All are told before the first is waited for.
        let (stops, ends): (Vec<_>, Vec<_>) = self
            .threads
            .into_iter()
            .map(|thread| (thread.stop, (thread.worker.index, thread.join, thread.ended)))
            .unzip();
        drop(stops);
        for (index, join, ended) in ends {
            match tokio::time::timeout_at(deadline, ended).await {
                // The thread has nothing left to do but return.
                Ok(_) => drop(join.join()),
                Err(_) => tracing::warn!(worker = index, "the worker thread is blocked and is left behind"),
            }
        }
        report
    }
}

impl Thread {
    fn start(index: usize, cpu: Option<usize>, options: &WorkersOptions) -> io::Result<Self> {
        let (ready_tx, ready_rx) = mpsc::sync_channel::<io::Result<Handle>>(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ended_tx, ended) = oneshot::channel::<()>();
        let on_start = options.on_start.clone();
        let join = thread::Builder::new().name(format!("wrk:worker_{index}")).spawn(move || {
            let _ended = ended_tx;
            if let Some(Err(error)) = cpu.map(process::pin_to) {
                tracing::warn!(worker = index, %error, "cannot pin the worker to a processor");
            }
            if let Some(on_start) = on_start {
                on_start(index);
            }
            let runtime = Builder::new_current_thread()
                .enable_all()
                .thread_name(format!("wrk:blocking_{index}"))
                .max_blocking_threads(MAX_BLOCKING_THREADS)
                .build();
            match runtime {
                Ok(runtime) => {
                    let _ = ready_tx.send(Ok(runtime.handle().clone()));
                    runtime.block_on(async {
                        tokio::select! {
                            _ = stopped => {}
                            () = tick() => {}
                        }
                    });
                    runtime.shutdown_timeout(BLOCKING_GRACE);
                }
                Err(error) => drop(ready_tx.send(Err(error))),
            }
        })?;
        let died = || io::Error::other(format!("worker {index} ended while it started"));
        let handle = ready_rx.recv().map_err(|_| died())??;
        let drain = options.drain.child(DrainType::Default);
        let spawner = Spawner::new(&format!("worker_{index}"), handle, drain, options.on_panic.clone());
        Ok(Self { worker: Worker { index, spawner }, join, stop, ended })
    }
}

/// How often a worker wakes with nothing to do.
const TICK: Duration = Duration::from_secs(1);

/// Keeps a timer at hand that is sooner than most. Where one is set that is to be the next of all, tokio (1.54) wakes its own
/// loop through a file descriptor: two system calls for each connect timeout, and hardly any of those ever comes.
async fn tick() {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
    }
}

impl Worker {
    /// From 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The owner of the worker's tasks. Make a child for each listener or other part that ends on its own.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// The worker's signal.
    pub fn drain(&self) -> &Drain {
        self.spawner.drain()
    }

    /// The worker's runtime.
    pub fn handle(&self) -> &Handle {
        self.spawner.handle()
    }

    /// Starts a task on this worker, from any thread. `function` runs on the worker's thread, inside its runtime, so
    /// it may register sockets and timers there. A future that is at hand goes smaller through [`Worker::spawner`].
    pub fn spawn<F, Fut>(&self, function: F) -> JoinHandle<()>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.spawner.spawn(async move { function().await })
    }

    /// Runs `function` on the worker's thread for a result. The caller owns the task: a shutdown does not wait for it.
    pub fn run<T, F, Fut>(&self, function: F) -> JoinHandle<T>
    where
        F: FnOnce(Worker) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let worker = self.clone();
        self.handle().spawn(async move { function(worker).await })
    }
}

impl fmt::Debug for WorkersOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersOptions")
            .field("count", &self.count)
            .field("pin_cpus", &self.pin_cpus)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
