//! The datagrams of one worker's socket, to their sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_filter::{AccessLogType, Datagram, UdpHandler, UdpLink, UdpListenerFilter};
use adit_io::Address;

use crate::inbox::Inbox;
use crate::plain::Plain;
use crate::session::{Key, Session};
use crate::{UdpProxy, tunnel};

/// Sessions of one socket on one worker. Those of a cluster are limited by its circuit breakers, which are lower by default.
const MAX_SESSIONS: usize = 65_536;

impl UdpListenerFilter for UdpProxy {
    fn start(self: Arc<Self>, link: UdpLink) -> Box<dyn UdpHandler> {
        Box::new(Handler { proxy: self, link, sessions: Arc::default(), local: None, stopped: false })
    }
}

/// Where a session's datagrams go.
enum Port {
    Plain(Arc<Plain>),
    Tunnel(Arc<Inbox>),
}

struct Entry {
    session: Arc<Session>,
    port: Port,
}

/// The sessions of one socket. Only the worker's own thread locks it.
type Sessions = Mutex<HashMap<Key, Entry>>;

struct Handler {
    proxy: Arc<UdpProxy>,
    link: UdpLink,
    sessions: Arc<Sessions>,
    local: Option<Address>,
    stopped: bool,
}

fn lock(sessions: &Sessions) -> MutexGuard<'_, HashMap<Key, Entry>> {
    // A poisoned lock still guards a whole map.
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UdpHandler for Handler {
    fn on_datagram(&mut self, datagram: Datagram<'_>) {
        let key = Key { peer: datagram.peer, local: datagram.local };
        let mut sessions = lock(&self.sessions);
        if !sessions.contains_key(&key) {
            if self.stopped || sessions.len() >= MAX_SESSIONS {
                self.proxy.stats.downstream_sess_rx_errors.inc();
                return;
            }
            self.local.get_or_insert(Address::Ip(key.local));
            let Some(entry) = self.begin(key) else { return };
            sessions.insert(key, entry);
        }
        if let Some(entry) = sessions.get(&key) {
            entry.session.received(datagram.payload.len());
            match &entry.port {
                Port::Plain(port) => port.send(&entry.session, datagram.payload),
                Port::Tunnel(inbox) => tunnel::send(&entry.session, inbox, datagram.payload),
            }
        }
    }

    fn on_error(&mut self) {
        self.proxy.stats.downstream_sess_rx_errors.inc();
    }

    fn live(&self) -> usize {
        lock(&self.sessions).len()
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

impl Handler {
    /// A session for a client that has none. `None` where there is no upstream for it, which is logged.
    fn begin(&self, key: Key) -> Option<Entry> {
        let session = Session::new(self.proxy.clone(), self.link.clone(), key);
        if let Some(plan) = &self.proxy.tunnel {
            let inbox = Arc::new(Inbox::new(plan.buffer));
            let place = Place { sessions: self.sessions.clone(), key };
            let run = tunnel::run(session.clone(), inbox.clone());
            self.link.worker.spawn.spawn(Box::pin(async move {
                run.await;
                drop(place);
            }));
            return Some(Entry { session, port: Port::Tunnel(inbox) });
        }
        let (port, guard) = match Plain::connect(&session) {
            Ok(port) => port,
            Err(mut info) => {
                session.log(&mut info, AccessLogType::UdpSessionEnd);
                return None;
            }
        };
        let place = Place { sessions: self.sessions.clone(), key };
        let (task, upstream) = (session.clone(), port.clone());
        self.link.worker.spawn.spawn(Box::pin(async move {
            upstream.run(&task).await;
            drop((place, guard));
        }));
        Some(Entry { session, port: Port::Plain(port) })
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if let Some(local) = self.local.take() {
            self.proxy.log_proxy(local, &self.link.listener.name);
        }
    }
}

/// A session's place in the map, left when its task is over, however it ends.
struct Place {
    sessions: Arc<Sessions>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Dropped after the lock: the last owner of a session closes its socket.
        let _entry = lock(&self.sessions).remove(&self.key);
    }
}
