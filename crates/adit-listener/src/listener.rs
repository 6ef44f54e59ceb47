//! A listener on all workers.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use adit_filter::{BoxFuture, Lifecycle, Spawn, WorkerEnv};
use adit_io::{Address, Io};
use adit_runtime::{Begin, Drain, Spawner, Worker};

use crate::BindAddress;
use crate::accept::{self, Acceptor};
use crate::connection::ConnectionTask;
use crate::limits::{GlobalLimit, ListenerLimit};
use crate::plan::ListenerPlan;
use crate::socket::{BindError, BoundAddress};
use crate::stats::WorkerStats;
use crate::udp::{self, WorkerSocket};

/// A listener: bound once for all workers, then started on each.
///
/// ```text
/// bind -> start on each worker -> stop_accepting -> (connections live on) -> begin_drain, or the worker's shutdown
/// ```
pub struct Listener {
    plan: Arc<ListenerPlan>,
    bound: Vec<BoundAddress>,
    global: Arc<GlobalLimit>,
    limit: Arc<ListenerLimit>,
    /// Closed: no more connections are accepted.
    accepting: Drain,
    workers: Workers,
}

/// A listener on those workers where it was started.
type Workers = Arc<Mutex<Vec<Arc<WorkerListener>>>>;

impl Listener {
    /// Binds every address for each of `workers`, without accepting anything yet. An internal listener has nothing to bind.
    pub fn bind(plan: Arc<ListenerPlan>, workers: usize, global: Arc<GlobalLimit>) -> Result<Self, BindError> {
        let name = plan.name();
        let bound = plan.sockets.iter().map(|socket| socket.bind(name, workers)).collect::<Result<_, _>>()?;
        let limit = Arc::new(ListenerLimit::new(name));
        Ok(Self { plan, bound, global, limit, accepting: Drain::new(), workers: Workers::default() })
    }

    /// Whether the addresses of a plan are free of other processes, to be asked before any listener of this one listens.
    pub fn probe(plan: &ListenerPlan) -> Result<(), BindError> {
        plan.sockets.iter().try_for_each(|socket| socket.probe(plan.name()))
    }

    /// Begins to accept on a worker: `env` is what the worker lends, of which this listener makes its own with its own
    /// drain and its own tasks. Once for each worker; connections that came before the last one started are not lost.
    pub fn start(&self, worker: &Worker, env: &WorkerEnv) -> Result<Arc<WorkerListener>, BindError> {
        let shared = Arc::new(WorkerListener::new(self, worker, env));
        for (plan, bound) in self.plan.sockets.iter().zip(&self.bound) {
            let Some(socket) = bound.take(worker.index()) else { continue };
            let failed = |operation: &'static str| {
                move |error: io::Error| BindError {
                    listener: self.plan.name().clone(),
                    address: bound.address.to_string(),
                    operation,
                    error,
                }
            };
            if let (BindAddress::Udp { .. }, Some(quic)) = (&bound.address, &self.plan.quic) {
                let _runtime = worker.handle().enter();
                let stopped = Box::pin(self.accepting.closing());
                let (info, env) = (self.plan.info.clone(), shared.env.clone());
                drop(shared.spawner.spawn(quic.clone().serve(socket.into(), info, env, stopped)));
                continue;
            }
            if let (BindAddress::Udp { socket: address, .. }, Some(udp)) = (&bound.address, &self.plan.udp) {
                let _runtime = worker.handle().enter();
                let socket = WorkerSocket::new(udp, *address, socket).map_err(failed("receive on"))?;
                drop(shared.spawner.spawn(udp::run(shared.clone(), socket, self.accepting.closing())));
                continue;
            }
            plan.listen(self.plan.name(), &socket)?;
            let acceptor = acceptor(worker, bound, socket).map_err(failed("accept on"))?;
            let task = accept::run(shared.clone(), acceptor, self.accepting.closing());
            drop(shared.spawner.spawn(task));
        }
        lock(&self.workers).push(shared.clone());
        Ok(shared)
    }

    /// What it was made from.
    pub fn plan(&self) -> &Arc<ListenerPlan> {
        &self.plan
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        self.plan.name()
    }

    /// The addresses it is bound to, with the ports that the kernel chose (`/listeners`); for an internal listener
    /// `envoy://<name>/`.
    pub fn addresses(&self) -> Vec<Address> {
        if self.plan.is_internal() {
            return vec![Address::Internal { listener: self.name().clone(), endpoint_id: "".into() }];
        }
        self.bound.iter().map(|bound| bound.address.address()).collect()
    }

    /// Accepts nothing any more and closes its sockets. Connections live on.
    pub fn stop_accepting(&self) {
        self.accepting.close();
        // Those of workers that never started.
        self.bound.iter().for_each(BoundAddress::close);
    }

    /// Whether [`Listener::stop_accepting`] was called.
    pub fn is_stopped(&self) -> bool {
        self.accepting.is_closing()
    }

    /// Asks its connections to go when it suits them (`/drain_listeners`, removal). It does not stop accepting.
    pub fn begin_drain(&self, begin: Begin) {
        for worker in lock(&self.workers).iter() {
            worker.spawner.drain().begin(begin);
        }
    }

    /// Ends its connections now, in order: the end of the drain time of a removed listener.
    pub fn close_connections(&self) {
        for worker in lock(&self.workers).iter() {
            worker.spawner.drain().close();
        }
    }

    /// Connections open now, those in listener filters included.
    pub fn connections(&self) -> u64 {
        self.limit.active()
    }
}

fn acceptor(worker: &Worker, bound: &BoundAddress, socket: socket2::Socket) -> io::Result<Acceptor> {
    let _runtime = worker.handle().enter();
    Acceptor::new(&bound.address, OwnedFd::from(socket))
}

/// A listener on one worker: what its connections share.
pub struct WorkerListener {
    pub(crate) plan: Arc<ListenerPlan>,
    pub(crate) env: Arc<WorkerEnv>,
    pub(crate) spawner: Spawner,
    pub(crate) stats: WorkerStats,
    pub(crate) global: Arc<GlobalLimit>,
    pub(crate) limit: Arc<ListenerLimit>,
    /// Connections open on this worker.
    pub(crate) connections: AtomicUsize,
    accepting: Drain,
    /// All of them, this one too, for as long as the listener lives.
    siblings: Weak<Mutex<Vec<Arc<WorkerListener>>>>,
}

impl WorkerListener {
    fn new(listener: &Listener, worker: &Worker, env: &WorkerEnv) -> Self {
        let plan = listener.plan.clone();
        let spawner = worker.spawner().child(&format!("listener {}", plan.name()), plan.drain_type);
        let own = WorkerEnv {
            index: env.index,
            clusters: env.clusters.clone(),
            spawn: Arc::new(OwnSpawn(spawner.clone())),
            lifecycle: Arc::new(OwnLifecycle(spawner.drain().clone())),
            runtime: env.runtime.clone(),
        };
        Self {
            stats: WorkerStats::new(&plan.scope, env.index),
            plan,
            env: Arc::new(own),
            spawner,
            global: listener.global.clone(),
            limit: listener.limit.clone(),
            connections: AtomicUsize::new(0),
            accepting: listener.accepting.clone(),
            siblings: Arc::downgrade(&listener.workers),
        }
    }

    /// The worker with the fewest connections of this listener (`connection_balance_config.exact_balance`), if that is
    /// another one than this.
    pub(crate) fn least_loaded(&self) -> Option<Arc<Self>> {
        let siblings = self.siblings.upgrade()?;
        let siblings = lock(&siblings);
        let least = siblings.iter().min_by_key(|worker| worker.connections.load(Relaxed))?;
        let fewer = least.connections.load(Relaxed) < self.connections.load(Relaxed);
        fewer.then(|| least.clone())
    }

    /// Takes a connection that did not come by a socket: an internal one, with its facts, filter state and metadata. Given
    /// back if the listener accepts nothing any more; dropped, and counted, if there are too many.
    pub fn accept(self: &Arc<Self>, io: Io) -> Result<(), Io> {
        if self.accepting.is_closing() {
            return Err(io);
        }
        if let Some(task) = ConnectionTask::admit(self, io) {
            drop(self.spawner.spawn(task));
        }
        Ok(())
    }
}

/// The listener's drain, as its connections see it.
struct OwnLifecycle(Drain);

impl Lifecycle for OwnLifecycle {
    fn should_drain(&self) -> bool {
        (self.0.is_draining() || self.0.is_health_failed()) && self.0.should_close(std::time::Instant::now())
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.closing())
    }
}

struct OwnSpawn(Spawner);

impl Spawn for OwnSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // The spawner owns the task; the handle is for those who wait for one.
        drop(self.0.spawn(task));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
