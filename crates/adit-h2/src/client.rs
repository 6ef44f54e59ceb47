//! The requesting side of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use adit_codec::{Capabilities, ClientConn, ClientParts, OutgoingStream, PendingResponse, RecvStream};
use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError};
use adit_io::Io;
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use tokio::time::{Instant, Sleep};

use crate::keepalive::{Keepalive, poll_dead};
use crate::recv::{Ended, H2Recv};
use crate::send::H2Send;
use crate::server::{LOCAL_ERRORS, PENDING_RESETS, RESET_MEMORY, RESET_MEMORY_FOR};
use crate::shared::{Shared, StreamGuard};
use crate::watch::Watched;
use crate::{ClientConfig, Http2Options, error, head};

/// Interim responses to one request before its stream is given up.
const MAX_INTERIM: u8 = 100;

/// Speaks HTTP/2 to the server behind `io`.
///
/// The driver makes the handshake and moves the bytes: nothing happens unless it is polled. The connection is ready once
/// the peer's SETTINGS are in force, so that its limits and its leave for extended CONNECT are known.
pub fn client(io: Io, cfg: Arc<ClientConfig>) -> ClientParts {
    let shared = Shared::new(cfg.stats.clone(), &cfg.http2, ErrorCode::Cancel);
    let watched = Watched::new(io, shared.clone(), &cfg.http2, false);
    let link = Arc::new(Link { shared: shared.clone(), state: Mutex::default() });
    let conn = Client { link: link.clone(), cfg: cfg.clone(), last_open: Instant::now() };
    ClientParts { conn: Box::new(conn), driver: Some(Box::pin(drive(watched, cfg, link))) }
}

fn builder(options: &Http2Options) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(options.stream_window())
        .initial_connection_window_size(options.connection_window())
        .max_frame_size(options.frame_size())
        .max_header_list_size(options.max_header_list_size)
        .header_table_size(options.table_size())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_concurrent_reset_streams(RESET_MEMORY)
        .reset_stream_duration(RESET_MEMORY_FOR)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_ERRORS))
        .max_send_buffer_size(options.max_send_buffer_size)
        .data_frame_budget(options.data_frame_budget())
        .enable_push(false);
    builder
}

/// Between the driver, the connection's handle and its streams.
struct Link {
    shared: Arc<Shared>,
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    /// `None` before the handshake, and once nothing may be opened any more.
    requests: Option<SendRequest<Bytes>>,
    over: Option<StreamError>,
    /// The driver, to be woken for a PING.
    driver: Option<Waker>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Nothing is opened any more; the `h2` crate closes the connection once its streams are done.
    fn close(&self, error: StreamError) {
        let mut state = self.lock();
        state.over.get_or_insert(error);
        let requests = state.requests.take();
        drop(state);
        drop(requests);
        self.shared.wake_ready();
    }
}

async fn drive(watched: Watched, cfg: Arc<ClientConfig>, link: Arc<Link>) -> Result<(), StreamError> {
    let close = CloseOnDrop(link);
    let link = &close.0;
    let opened = tokio::time::timeout(cfg.settings_timeout, builder(&cfg.http2).handshake(watched)).await;
    let result = match opened {
        Ok(Ok((requests, mut connection))) => {
            let pings = cfg.http2.keepalive.and_then(|options| Some((options, connection.ping_pong()?)));
            let keepalive = pings.map(|(options, pings)| Keepalive::new(options, pings));
            let closed = link.lock().over.is_some();
            if !closed {
                link.lock().requests = Some(requests);
            }
            let patience = Some(Box::pin(tokio::time::sleep(cfg.settings_timeout)));
            Drive { connection, keepalive, link: link.clone(), patience, goaway: false }.await
        }
        Ok(Err(cause)) => Err(error::connection(&cause)),
        Err(_) => Err(StreamError::TimedOut),
    };
    link.close(result.err().unwrap_or(StreamError::Stopped(ErrorCode::NoError)));
    result
}

struct CloseOnDrop(Arc<Link>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(StreamError::Truncated);
        self.0.shared.release_senders();
    }
}

/// Moves the connection's bytes until it ends.
struct Drive {
    connection: Connection<Watched, Bytes>,
    keepalive: Option<Keepalive>,
    link: Arc<Link>,
    /// Until the peer's SETTINGS are in force.
    patience: Option<Pin<Box<Sleep>>>,
    goaway: bool,
}

impl Future for Drive {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let shared = me.link.shared.clone();
        shared.begin_poll();
        let polled = Pin::new(&mut me.connection).poll(cx);
        if shared.condemned().is_some() {
            // Perhaps by what was written: the streams are told of the error that the next read gives.
            let _ = Pin::new(&mut me.connection).poll(cx);
        }
        shared.end_poll();
        if me.patience.is_some() && shared.settings_in_force.load(Relaxed) {
            me.patience = None;
            shared.wake_ready();
        }
        if shared.goaway.load(Relaxed) && !me.goaway {
            me.goaway = true;
            me.link.close(StreamError::Stopped(ErrorCode::NoError));
        }
        if let Some(reason) = shared.condemned() {
            return Poll::Ready(Err(error::condemned(reason).0));
        }
        if let Poll::Ready(result) = polled {
            return Poll::Ready(result.map_err(|cause| error::connection(&cause)));
        }
        if let Some(patience) = &mut me.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(StreamError::TimedOut));
        }
        if me.keepalive.is_some() {
            me.link.lock().driver = Some(cx.waker().clone());
            if poll_dead(&mut me.keepalive, cx, &shared).is_ready() {
                return Poll::Ready(Err(StreamError::TimedOut));
            }
        }
        Poll::Pending
    }
}

/// Opens streams on a connection that its driver moves.
struct Client {
    link: Arc<Link>,
    cfg: Arc<ClientConfig>,
    last_open: Instant,
}

impl Client {
    /// A PING ahead of a stream on a connection that was idle (`connection_idle_interval`).
    fn ping_if_idle(&mut self) {
        let Some(limit) = self.cfg.http2.keepalive.and_then(|keepalive| keepalive.connection_idle_interval) else {
            return;
        };
        let now = Instant::now();
        let idle_for = now.saturating_duration_since(std::mem::replace(&mut self.last_open, now));
        if self.link.shared.live() == 0 && idle_for >= limit {
            self.link.shared.ping_wanted.store(true, Relaxed);
            let driver = self.link.lock().driver.take();
            if let Some(driver) = driver {
                driver.wake();
            }
        }
    }
}

impl ClientConn for Client {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Capabilities, StreamError>> {
        let mut state = self.link.lock();
        if let Some(error) = state.over {
            return Poll::Ready(Err(error));
        }
        self.link.shared.set_ready(cx);
        let Some(requests) = &mut state.requests else { return Poll::Pending };
        if !self.link.shared.settings_in_force.load(Relaxed) {
            return Poll::Pending;
        }
        if let Err(cause) = ready!(requests.poll_ready(cx)) {
            return Poll::Ready(Err(error::connection(&cause)));
        }
        let allowed = requests.current_max_send_streams().min(self.cfg.http2.max_concurrent_streams as usize);
        let open = allowed.saturating_sub(self.link.shared.live());
        if open == 0 {
            return Poll::Pending;
        }
        let extended_connect = requests.is_extended_connect_protocol_enabled();
        Poll::Ready(Ok(Capabilities { open, extended_connect, version: http::Version::HTTP_2 }))
    }

    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        self.ping_if_idle();
        let kind = head.kind.clone();
        let mut state = self.link.lock();
        if let Some(error) = state.over {
            return Err(error);
        }
        let Some(requests) = &mut state.requests else { return Err(StreamError::Local(ErrorCode::Internal)) };
        if matches!(kind, RequestKind::Upgrade(_)) && !requests.is_extended_connect_protocol_enabled() {
            return Err(StreamError::Protocol("http2.extended_connect_not_allowed"));
        }
        let request = head::to_wire(head.clone())?;
        let (response, stream) = requests.send_request(request, end).map_err(|cause| error::stream(&cause))?;
        drop(state);
        let guard = StreamGuard::new(self.link.shared.clone());
        let pending = H2Pending { response, recv: None, kind, guard: guard.clone(), interim: 0, answered: false };
        let send = H2Send::new(stream, guard, end);
        Ok(OutgoingStream { send: Box::new(send), response: Box::new(pending), meter: None })
    }

    fn live_streams(&self) -> usize {
        self.link.shared.live()
    }

    fn drain(&mut self) {
        self.link.close(StreamError::Local(ErrorCode::NoError));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.link.close(StreamError::Local(ErrorCode::NoError));
    }
}

struct H2Pending {
    response: ResponseFuture,
    recv: Option<h2::RecvStream>,
    kind: RequestKind,
    guard: Arc<StreamGuard>,
    interim: u8,
    /// The final head came, or the error that stands for it.
    answered: bool,
}

impl H2Pending {
    fn fail(&mut self, cause: &h2::Error) -> StreamError {
        self.answered = true;
        error::stream(cause)
    }
}

impl PendingResponse for H2Pending {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        if self.answered {
            return Poll::Ready(Err(StreamError::Local(ErrorCode::Internal)));
        }
        match ready!(self.response.poll_informational(cx)) {
            Some(Ok(interim)) => {
                self.interim = self.interim.saturating_add(1);
                if self.interim > MAX_INTERIM {
                    return Poll::Ready(Err(StreamError::TooLarge("http2.too_many_interim_responses")));
                }
                return Poll::Ready(head::response(interim, &RequestKind::Plain, self.guard.shared.rules));
            }
            Some(Err(cause)) => return Poll::Ready(Err(self.fail(&cause))),
            None => {}
        }
        match ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(response) => {
                let (parts, recv) = response.into_parts();
                self.answered = true;
                self.recv = Some(recv);
                let head = head::response(http::Response::from_parts(parts, ()), &self.kind, self.guard.shared.rules);
                match &head {
                    Ok(head) if self.kind.is_tunnel() && !head.accepts(&self.kind) => self.guard.set_refused(),
                    Ok(_) => {}
                    Err(_) => self.guard.abandon(),
                }
                Poll::Ready(head)
            }
            Err(cause) => Poll::Ready(Err(self.fail(&cause))),
        }
    }

    fn into_recv(mut self: Box<Self>) -> Box<dyn RecvStream> {
        match self.recv.take() {
            Some(recv) if !recv.is_end_stream() => Box::new(H2Recv::new(recv, self.guard.clone())),
            Some(_) => Box::new(Ended),
            None => Box::new(H2Recv::misused(self.guard.clone())),
        }
    }
}

impl Drop for H2Pending {
    fn drop(&mut self) {
        if !self.answered {
            self.guard.abandon();
        }
    }
}
