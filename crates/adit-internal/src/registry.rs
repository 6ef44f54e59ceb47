//! Internal listeners by name.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use adit_io::{Address, ConnInfo, FilterState, Io, Metadata, RefusalSlot, Stream};

use crate::{InternalStream, Limits, pair};

/// Internal listeners that one connection's bytes may cross, unless told otherwise: 16.
pub const DEFAULT_MAX_HOPS: u8 = 16;

/// The internal listeners of one worker. Clones are the same registry.
///
/// A connection goes to the listener of the same registry, hence of the same worker; there is no hand-off.
#[derive(Clone)]
pub struct InternalListeners(Arc<Registry>);

struct Registry {
    listeners: Mutex<HashMap<Arc<str>, Arc<dyn Accept>>>,
    limits: Limits,
    max_hops: u8,
    /// The connecting end's address, the same for all.
    client: Address,
}

/// Takes the accepted end of a connection.
///
/// Called by [`InternalListeners::connect`] on the thread of the connecting side, which waits for it: hand the connection
/// over (spawn, queue) and return. It may connect further.
pub trait Accept: Send + Sync {
    /// Takes the connection, or refuses it (a limit, an overload, a listener that drains).
    fn accept(&self, io: Io) -> Result<(), Refused>;
}

impl<F: Fn(Io) -> Result<(), Refused> + Send + Sync> Accept for F {
    fn accept(&self, io: Io) -> Result<(), Refused> {
        self(io)
    }
}

/// An internal listener does not take a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the internal listener takes no connection now")]
pub struct Refused;

/// A name cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another internal listener has this name.
    #[error("an internal listener named {0} exists")]
    NameTaken(Arc<str>),
}

/// A connection to an internal listener failed. None of these leaves anything behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No listener of this worker has this name: it was never there, or is gone.
    #[error("no internal listener named {0}")]
    NotFound(Arc<str>),
    /// The listener refused.
    #[error("internal listener {0} takes no connection now")]
    Refused(Arc<str>),
    /// The connection's bytes have crossed as many internal listeners as they may: most likely a loop.
    #[error("internal listener {listener} not entered: {hops} internal listeners crossed already (a loop?)")]
    TooManyHops {
        /// The listener that was to be entered.
        listener: Arc<str>,
        /// How many were crossed.
        hops: u8,
    },
}

/// What the accepting side learns of the connecting one.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// [`ConnInfo::internal_hops`] of the connection on whose behalf this one is made.
    pub hops: u8,
    /// Filter state as it arrives: where `internal_upstream` is configured, [`FilterState::shared_with_upstream`].
    pub state: FilterState,
    /// Dynamic metadata as it arrives: the keys of `passthrough_metadata`.
    pub metadata: Metadata,
}

impl InternalListeners {
    /// A registry without a listener; `limits` hold for each connection (`buffer_size_kb` of the bootstrap extension).
    pub fn new(limits: Limits, max_hops: u8) -> Self {
        Self(Arc::new(Registry {
            listeners: Mutex::new(HashMap::new()),
            limits,
            max_hops,
            client: Address::internal_client(),
        }))
    }

    /// Sends connections to `name` to `accept`, until the binding is dropped.
    pub fn bind(&self, name: &str, accept: impl Accept + 'static) -> Result<Binding, BindError> {
        let name: Arc<str> = name.into();
        let mut listeners = self.0.lock();
        if listeners.contains_key(&name) {
            return Err(BindError::NameTaken(name));
        }
        listeners.insert(name.clone(), Arc::new(accept));
        drop(listeners);
        Ok(Binding { registry: self.0.clone(), name })
    }

    /// Queues connections to `name`, at most `backlog` of them, for [`Acceptor::accept`].
    pub fn listen(&self, name: &str, backlog: usize) -> Result<Acceptor, BindError> {
        let backlog = Arc::new(Mutex::new(Backlog { waiting: VecDeque::new(), most: backlog.max(1), waker: None }));
        let queue = backlog.clone();
        let binding = self.bind(name, move |io| {
            let mut queue = lock(&queue);
            if queue.waiting.len() >= queue.most {
                return Err(Refused);
            }
            queue.waiting.push_back(io);
            let waker = queue.waker.take();
            drop(queue);
            if let Some(waker) = waker {
                waker.wake();
            }
            Ok(())
        })?;
        Ok(Acceptor { backlog, binding })
    }

    /// Connects to the listener `name` of this worker, and gives the connecting end.
    ///
    /// The accepting end sees `envoy://internal_client_address/` as its peer and `envoy://<name>/<endpoint_id>` as its own
    /// address. Both ends share one [`RefusalSlot`].
    pub fn connect(&self, name: &str, endpoint_id: &Arc<str>, passed: Passed) -> Result<Io, ConnectError> {
        let found = self.0.lock().get_key_value(name).map(|(name, accept)| (name.clone(), accept.clone()));
        let Some((name, accept)) = found else { return Err(ConnectError::NotFound(name.into())) };
        if passed.hops >= self.0.max_hops {
            return Err(ConnectError::TooManyHops { listener: name, hops: passed.hops });
        }
        let hops = passed.hops + 1;
        let (near, far) = pair(self.0.limits);
        let server = Address::Internal { listener: name.clone(), endpoint_id: endpoint_id.clone() };
        let refusal = RefusalSlot::new();
        let io = |stream: InternalStream, local: &Address, remote: &Address| {
            let mut info = ConnInfo::new(ConnInfo::next_id(), local.clone(), remote.clone());
            info.internal_hops = hops;
            info.refusal = Some(refusal.clone());
            Io::new(Stream::Other(Box::new(stream)), Arc::new(info))
        };
        let near = io(near, &self.0.client, &server);
        let mut far = io(far, &server, &self.0.client);
        far.state = passed.state;
        far.metadata = passed.metadata;
        // The lock is free here: accepting may connect further.
        accept.accept(far).map_err(|Refused| ConnectError::Refused(name))?;
        Ok(near)
    }

    /// Whether a listener has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.lock().contains_key(name)
    }
}

impl fmt::Debug for InternalListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().keys()).finish()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<dyn Accept>>> {
        lock(&self.listeners)
    }
}

/// A name in use; free again when this is dropped. Connections that were accepted live on.
pub struct Binding {
    registry: Arc<Registry>,
    name: Arc<str>,
}

impl Binding {
    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Binding").field(&self.name).finish()
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // Taken out first: what it holds may bind or connect as it is dropped.
        let accept = self.registry.lock().remove(&self.name);
        drop(accept);
    }
}

/// The accepting side of [`InternalListeners::listen`]. Dropped, its name is free and what waits is reset.
#[derive(Debug)]
pub struct Acceptor {
    backlog: Arc<Mutex<Backlog>>,
    binding: Binding,
}

impl Acceptor {
    /// The next connection.
    pub async fn accept(&mut self) -> Io {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Io> {
        let mut backlog = lock(&self.backlog);
        match backlog.waiting.pop_front() {
            Some(io) => Poll::Ready(io),
            None => {
                backlog.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The name it listens on.
    pub fn name(&self) -> &Arc<str> {
        self.binding.name()
    }
}

struct Backlog {
    waiting: VecDeque<Io>,
    most: usize,
    waker: Option<Waker>,
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("waiting", &self.waiting.len()).field("most", &self.most).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
