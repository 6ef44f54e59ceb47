//! One connection, from its socket to its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use adit_filter::{BoxFuture, Connection, ListenerFilterVerdict, LogContext, NetworkVerdict, ResponseFlag, StreamInfo};
use adit_io::{Io, Refusal};
use tokio::time::timeout;

use crate::WorkerListener;
use crate::chain::FilterChainPlan;
use crate::matcher::MatchInput;

/// Longest wait that a network filter may ask for before a refused connection is closed.
const MAX_CLOSE_DELAY: Duration = Duration::from_secs(60);

/// The task of one connection: small, because it lives as long as the connection does. What happens before the terminal
/// filter takes over lives in a box that is freed then.
///
/// ```text
/// Preparing (listener filters, chain match, handshake, network filters) -> Serving -> log, counters
///     +-- refused: log, counters
/// ```
pub(crate) enum ConnectionTask {
    Preparing(BoxFuture<'static, (Open, Next)>),
    Serving(BoxFuture<'static, Option<Box<StreamInfo>>>, Open),
    Over,
}

/// What preparing comes to.
pub(crate) enum Next {
    Serve(BoxFuture<'static, Option<Box<StreamInfo>>>),
    Refused(Box<StreamInfo>),
    /// The worker closes.
    Closed,
}

impl ConnectionTask {
    /// The task of a new connection; `None`, and the connection is closed, when there are too many.
    pub(crate) fn admit(listener: &Arc<WorkerListener>, io: Io) -> Option<Self> {
        Some(Self::new(Open::admit(listener)?, io))
    }

    /// The task of a connection that was admitted; on the thread of its worker.
    pub(crate) fn new(mut open: Open, io: Io) -> Self {
        let listener = open.listener.clone();
        defer(&listener, &io);
        match direct(&listener, &io) {
            Some(chain) => {
                open.count();
                let connection = connection(&listener, chain, io);
                Self::Serving(chain.chain.terminal.clone().serve(connection), open)
            }
            None => Self::Preparing(Box::pin(prepare_unless_closing(open, io))),
        }
    }
}

fn write_log(listener: &WorkerListener, info: &mut StreamInfo) {
    let logs = &listener.plan.access_logs;
    if logs.is_empty() {
        return;
    }
    info.timing.end.get_or_insert_with(|| info.started.elapsed());
    for log in logs {
        log.log(&LogContext::new(info));
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Preparing(preparing) => {
                    let (open, next) = ready!(preparing.as_mut().poll(cx));
                    *self = match next {
                        Next::Serve(serving) => Self::Serving(serving, open),
                        Next::Refused(mut info) => {
                            refuse(&info);
                            write_log(&open.listener, &mut info);
                            Self::Over
                        }
                        Next::Closed => Self::Over,
                    };
                }
                Self::Serving(serving, open) => {
                    if let Some(mut info) = ready!(serving.as_mut().poll(cx)) {
                        write_log(&open.listener, &mut info);
                    }
                    *self = Self::Over;
                }
                Self::Over => return Poll::Ready(()),
            }
        }
    }
}

/// An open connection in the limits and, once it has a filter chain, in the stats.
pub(crate) struct Open {
    listener: Arc<WorkerListener>,
    since: Instant,
    counted: bool,
}

impl Open {
    /// `None` when there are too many.
    pub(crate) fn admit(listener: &Arc<WorkerListener>) -> Option<Self> {
        let plan = &listener.plan;
        if !plan.ignore_global_limit && !listener.global.admit() {
            plan.stats.downstream_global_cx_overflow.inc();
            return None;
        }
        if !listener.limit.admit(&listener.env.runtime) {
            if !plan.ignore_global_limit {
                listener.global.release();
            }
            plan.stats.downstream_cx_overflow.inc();
            return None;
        }
        listener.connections.fetch_add(1, Relaxed);
        Some(Self { listener: listener.clone(), since: Instant::now(), counted: false })
    }

    fn count(&mut self) {
        self.counted = true;
        let (all, worker) = (&self.listener.plan.stats, &self.listener.stats);
        all.downstream_cx_total.inc();
        all.downstream_cx_active.inc();
        worker.downstream_cx_total.inc();
        worker.downstream_cx_active.inc();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listener.connections.fetch_sub(1, Relaxed);
        self.listener.limit.release();
        if !self.listener.plan.ignore_global_limit {
            self.listener.global.release();
        }
        if self.counted {
            let (all, worker) = (&self.listener.plan.stats, &self.listener.stats);
            all.downstream_cx_active.dec();
            worker.downstream_cx_active.dec();
            all.downstream_cx_destroy.inc();
            all.downstream_cx_length_ms.record(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
    }
}

/// The chain of a connection that nothing needs to wait for.
fn direct<'a>(listener: &'a WorkerListener, io: &Io) -> Option<&'a FilterChainPlan> {
    let plan = &listener.plan;
    if !plan.listener_filters.is_empty() {
        return None;
    }
    let chain = plan.find_chain(&MatchInput::from(&*io.info))?;
    (chain.transport.is_none() && chain.chain.filters.is_empty()).then_some(chain)
}

/// Has who made an internal connection wait for the terminal filter's decision, where one comes without a byte being read.
fn defer(listener: &WorkerListener, io: &Io) {
    let Some(slot) = &io.info.refusal else { return };
    let plan = &listener.plan;
    if !plan.listener_filters.is_empty() {
        return;
    }
    let chain = plan.find_chain(&MatchInput::from(&*io.info));
    if chain.is_none_or(|chain| chain.transport.is_none() && chain.chain.terminal.decides()) {
        slot.defer();
    }
}

/// Tells who made an internal connection why it gets no further.
fn refuse(info: &StreamInfo) {
    let Some(slot) = &info.conn.refusal else { return };
    let details = info.termination_details.as_deref().or(info.details.as_deref()).unwrap_or_default();
    slot.set(Refusal { flags: info.flags.to_bits(), details: details.into(), ..Refusal::default() });
}

fn connection(listener: &WorkerListener, chain: &FilterChainPlan, io: Io) -> Connection {
    Connection {
        io,
        listener: listener.plan.info.clone(),
        filter_chain_name: chain.name.clone(),
        worker: listener.env.clone(),
        guards: Vec::new(),
    }
}

/// A connection that does not get as far as a filter chain.
fn refused(listener: &WorkerListener, io: &Io) -> Box<StreamInfo> {
    let mut info = StreamInfo::new(io.info.clone());
    info.state = io.state.clone();
    info.metadata = io.metadata.clone();
    info.listener_name = Some(listener.plan.name().clone());
    Box::new(info)
}

async fn prepare_unless_closing(mut open: Open, io: Io) -> (Open, Next) {
    let closing = open.listener.spawner.drain().closing();
    let next = tokio::select! {
        next = prepare(&mut open, io) => next,
        () = closing => Next::Closed,
    };
    (open, next)
}

async fn prepare(open: &mut Open, mut io: Io) -> Next {
    let listener = open.listener.clone();
    let plan = &listener.plan;
    if !run_listener_filters(&listener, &mut io).await {
        return Next::Refused(refused(&listener, &io));
    }
    let Some(chain) = plan.find_chain(&MatchInput::from(&*io.info)) else {
        tracing::debug!(remote = %io.info.remote, "closing connection: no matching filter chain found");
        plan.stats.no_filter_chain_match.inc();
        let mut info = refused(&listener, &io);
        info.flags.set(ResponseFlag::NoRouteFound);
        info.details = Some("filter_chain_not_found".into());
        return Next::Refused(info);
    };
    open.count();
    match shake_hands(&listener, chain, io).await {
        Ok(io) => run_network_filters(chain, connection(&listener, chain, io)).await,
        Err(info) => Next::Refused(info),
    }
}

/// Whether the connection goes on.
async fn run_listener_filters(listener: &WorkerListener, io: &mut Io) -> bool {
    let plan = &listener.plan;
    if plan.listener_filters.is_empty() {
        return true;
    }
    let _pre = plan.stats.downstream_pre_cx_active.hold();
    let filters = async {
        for entry in &plan.listener_filters {
            if entry.disabled.as_ref().is_some_and(|predicate| predicate.matches(io.info.local.port())) {
                continue;
            }
            match entry.filter.accept(io).await {
                ListenerFilterVerdict::Continue => {}
                verdict => return verdict,
            }
        }
        ListenerFilterVerdict::Continue
    };
    let verdict = match plan.listener_filters_timeout {
        Some(limit) => timeout(limit, filters).await,
        None => Ok(filters.await),
    };
    match verdict {
        Ok(ListenerFilterVerdict::Continue) => true,
        Ok(ListenerFilterVerdict::Error) => {
            plan.stats.downstream_listener_filter_error.inc();
            false
        }
        Ok(ListenerFilterVerdict::RemoteClose) => {
            plan.stats.downstream_listener_filter_remote_close.inc();
            false
        }
        Err(_) => {
            plan.stats.downstream_pre_cx_timeout.inc();
            plan.continue_on_timeout
        }
    }
}

async fn shake_hands(listener: &WorkerListener, chain: &FilterChainPlan, io: Io) -> Result<Io, Box<StreamInfo>> {
    let Some(transport) = &chain.transport else { return Ok(io) };
    let mut info = refused(listener, &io);
    info.filter_chain_name = chain.name.clone();
    match timeout(chain.connect_timeout, transport.accept(io)).await {
        Ok(Ok(io)) => Ok(io),
        Ok(Err(error)) => {
            info.downstream_transport_failure = Some(error.reason);
            Err(info)
        }
        Err(_) => {
            listener.plan.stats.downstream_cx_transport_socket_connect_timeout.inc();
            info.local_close_reason = Some("transport_socket_timeout".into());
            Err(info)
        }
    }
}

async fn run_network_filters(chain: &FilterChainPlan, mut connection: Connection) -> Next {
    for filter in &chain.chain.filters {
        match filter.on_connection(&mut connection).await {
            NetworkVerdict::Continue => {}
            NetworkVerdict::Close { delay, details, flag } => {
                let mut info = connection.stream_info();
                if !delay.is_zero() {
                    let closing = connection.worker.lifecycle.closing();
                    tokio::select! {
                        () = tokio::time::sleep(delay.min(MAX_CLOSE_DELAY)) => {}
                        () = closing => {}
                    }
                }
                info.termination_details = (!details.is_empty()).then(|| details.into());
                if let Some(flag) = flag {
                    info.flags.set(flag);
                }
                chain.chain.terminal.refused(&mut info);
                return Next::Refused(Box::new(info));
            }
        }
    }
    Next::Serve(chain.chain.terminal.clone().serve(connection))
}
