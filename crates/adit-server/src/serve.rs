//! Plans become a running process, and end in order.

use std::sync::Arc;
use std::time::Duration;

use adit_filter::WorkerEnv;
use adit_internal::InternalListeners;
use adit_io::Io;
use adit_listener::{GlobalLimit, Listener};
use adit_runtime::{Drain, Spawner, Worker, Workers, WorkersOptions};
use adit_upstream::{ClusterManager, Codecs, WorkerDeps};
use anyhow::{Context, Result, anyhow, bail};
use tokio::net::TcpListener;

use crate::admin::AdminParts;
use crate::build::Plans;
use crate::control::ServerControl;
use crate::internal::Registry;
use crate::lifecycle::{DrainLifecycle, WorkerSpawn};
use crate::logging::LogControl;
use crate::options::{Mode, Options};
use crate::server_stats::ServerStats;
use crate::signals::{Request, Signals};

/// How long connections may take to end in order.
const CLOSING_GRACE: Duration = Duration::from_secs(2);

/// How many internal listeners one connection may cross.
const MAX_INTERNAL_HOPS: u8 = 16;

/// Runs the process until it is told to end.
pub(crate) fn serve(plans: Plans, options: Options, workers: usize, log: LogControl) -> Result<()> {
    match adit_runtime::raise_fd_limit() {
        Ok((before, after)) => tracing::info!(before, after, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors cannot be raised"),
    }
    let runtime = adit_runtime::main_runtime().context("no main runtime")?;
    let result = runtime.block_on(run(plans, options, workers, log));
    // Nothing of the main runtime outlives the process's end; a blocking DNS look-up may not hold it up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn run(plans: Plans, options: Options, count: usize, log: LogControl) -> Result<()> {
    let mut signals = Signals::install().context("signals")?;
    let drain = Drain::new();
    let control = Arc::new(ServerControl::new(
        &options,
        drain.clone(),
        plans.sinks.clone(),
        log,
        plans.runtime.clone(),
        plans.layers.admin,
    ));
    if !options.share_ports {
        probe(&plans)?;
    }
    let listeners = bind(&plans, count)?;
    control.set_listeners(listeners.clone());
    let manager = ClusterManager::new(plans.clusters.iter().cloned());
    let main = Spawner::new("main", tokio::runtime::Handle::current(), drain.clone(), None);
    for task in manager.run() {
        drop(main.spawn(task));
    }
    let certificates = plans.certificates.clone();
    drop(main.spawn(async move { certificates.run().await }));
    let workers = Workers::start(WorkersOptions {
        count,
        drain: drain.clone(),
        on_start: Some(Arc::new(adit_stats::enter_worker)),
        ..WorkersOptions::default()
    })
    .context("worker threads")?;
    crate::own_stats::register(&plans, count, options.version);
    let stats = Arc::new(ServerStats::new(&plans.store, count, plans.certificates.clone()));
    let refresh = {
        let (stats, control) = (stats.clone(), control.clone());
        let on_admin = plans.bootstrap.stats_flush.is_some().then(|| plans.store.clone());
        Arc::new(move || {
            stats.set(&control);
            if let Some(store) = &on_admin {
                store.latch_histograms();
            }
        })
    };
    let parts = AdminParts { workers: count, control: control.clone(), manager: manager.clone(), refresh };
    crate::admin::start(&plans, &options, parts, &main).await?;
    if options.demonstration {
        start_demonstration(&main).await?;
    }
    drop(main.spawn(stats.clone().run(control.clone(), plans.store.clone(), flush_interval(&plans))));
    let started = start_listeners(&plans, &manager, &workers, &listeners, &drain, &control);
    tokio::select! {
        result = started => result?,
        () = end_requested(&mut signals, &control) => return end(workers, listeners, drain, &plans).await,
    }
    tracing::info!(version = options.version, workers = count, "all listeners accept");
    if options.mode != Mode::InitOnly {
        end_requested(&mut signals, &control).await;
    }
    end(workers, listeners, drain, &plans).await
}

/// Another process may not listen where this one will.
fn probe(plans: &Plans) -> Result<()> {
    let taken = plans.listeners.iter().filter_map(|plan| Listener::probe(plan).err());
    let problems: Vec<String> = taken.map(|error| error.to_string()).collect();
    if problems.is_empty() { Ok(()) } else { bail!(problems.join("\n")) }
}

fn bind(plans: &Plans, workers: usize) -> Result<Vec<Arc<Listener>>> {
    let global = GlobalLimit::new(None, plans.runtime.clone());
    let mut bound = Vec::new();
    let mut problems = Vec::new();
    for plan in &plans.listeners {
        match Listener::bind(plan.clone(), workers, global.clone()) {
            Ok(listener) => bound.push(Arc::new(listener)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() { Ok(bound) } else { bail!(problems.join("\n")) }
}

async fn end_requested(signals: &mut Signals, control: &ServerControl) {
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Terminate => return,
                Request::ReopenLogs => control.reopen(),
            },
            () = control.quit_requested() => return,
        }
    }
}

/// Listeners stop, tunnels end so that their peers see an end, logs are written.
async fn end(workers: Workers, listeners: Vec<Arc<Listener>>, drain: Drain, plans: &Plans) -> Result<()> {
    tracing::info!("ending");
    listeners.iter().for_each(|listener| listener.stop_accepting());
    drain.close();
    let report = workers.shutdown(CLOSING_GRACE).await;
    if report.aborted > 0 {
        tracing::warn!(connections = report.aborted, "did not end in time and were cut");
    }
    plans.sinks.flush();
    Ok(())
}

/// Waits for the clusters' first answers, then every worker starts every listener.
async fn start_listeners(
    plans: &Plans,
    manager: &Arc<ClusterManager>,
    workers: &Workers,
    listeners: &[Arc<Listener>],
    drain: &Drain,
    control: &ServerControl,
) -> Result<()> {
    manager.ready().await;
    control.set_clusters_ready();
    let shared = Arc::new(WorkerParts {
        manager: manager.clone(),
        listeners: listeners.to_vec(),
        drain: drain.clone(),
        runtime: plans.runtime.clone(),
        internal_buffer: plans.internal_buffer,
    });
    let results = workers.run_on_each(move |worker| {
        let shared = shared.clone();
        async move { shared.start(&worker) }
    });
    for result in results.await.map_err(|lost| anyhow!("worker {} is lost", lost.index))? {
        result?;
    }
    control.set_listening();
    Ok(())
}

/// What each worker is built from.
struct WorkerParts {
    manager: Arc<ClusterManager>,
    listeners: Vec<Arc<Listener>>,
    drain: Drain,
    runtime: adit_filter::RuntimeValues,
    internal_buffer: adit_internal::Limits,
}

impl WorkerParts {
    fn start(&self, worker: &Worker) -> Result<()> {
        let internal = InternalListeners::new(self.internal_buffer, MAX_INTERNAL_HOPS);
        let spawn = Arc::new(WorkerSpawn(worker.spawner().clone()));
        let deps = Arc::new(WorkerDeps {
            spawn: spawn.clone(),
            internal: Arc::new(Registry(internal.clone())),
            codecs: Arc::new(Codecs),
        });
        let env = WorkerEnv {
            index: worker.index(),
            clusters: self.manager.worker(deps),
            spawn,
            lifecycle: Arc::new(DrainLifecycle(self.drain.clone())),
            runtime: self.runtime.clone(),
        };
        for listener in &self.listeners {
            let started = listener.start(worker, &env).map_err(|error| anyhow!("{error}"))?;
            if listener.plan().is_internal() {
                let accept = move |io: Io| started.accept(io).map_err(|_| adit_internal::Refused);
                let binding = internal.bind(listener.name(), accept).map_err(|error| anyhow!("{error}"))?;
                let closing = worker.drain().closing();
                // The name is bound until the worker closes.
                drop(worker.spawner().spawn(async move {
                    closing.await;
                    drop(binding);
                }));
            }
        }
        Ok(())
    }
}

fn flush_interval(plans: &Plans) -> Duration {
    let interval = plans.bootstrap.stats_flush_interval.as_ref().map(adit_config::duration);
    interval.unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(1))
}

async fn start_demonstration(main: &Spawner) -> Result<()> {
    let listener = TcpListener::bind(crate::demo::ORIGIN).await.with_context(|| crate::demo::ORIGIN)?;
    let spawner = main.clone();
    drop(main.spawn(async move {
        if let Err(error) = crate::demo::serve_origin(listener, spawner).await {
            tracing::error!(%error, "the demonstration's origin ended");
        }
    }));
    print!("{}", crate::demo::GUIDE);
    Ok(())
}
