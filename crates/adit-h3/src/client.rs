//! The requesting side of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use adit_codec::{Capabilities, ClientConn, ClientParts, OutgoingStream, PendingResponse, RecvStream};
use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError};
use http::Method;
use quinn::{ConnectionError, VarInt};
use tokio::time::Sleep;

use crate::control::Control;
use crate::endpoint::QuicConnection;
use crate::error::{self, Fatal, code};
use crate::fields::Refusal;
use crate::frame::{Frame, Role};
use crate::hub::{Hub, HubReader};
use crate::inbound::{Inbound, Stop};
use crate::recv::{Body, H3Recv};
use crate::send::H3Send;
use crate::server::departures;
use crate::settings::Settings;
use crate::shared::{Shared, StreamGuard, lock};
use crate::silence::Silence;
use crate::{ClientConfig, Counter, head};

/// Interim responses to one request before its stream is given up.
const MAX_INTERIM: u8 = 100;

/// Speaks HTTP/3 to the server at the other end of a connection whose handshake is done.
///
/// The driver exchanges SETTINGS and sorts datagrams. The connection is ready once the peer's SETTINGS came, so that its
/// limits and its leave for extended CONNECT are known. Streams move by themselves: quinn drives its connections in tasks
/// of their own.
pub fn client(conn: QuicConnection, cfg: Arc<ClientConfig>) -> ClientParts {
    let conn = conn.0;
    let hub = cfg.http3.datagrams.then(Arc::<Hub>::default);
    let shared = Shared::new(conn.clone(), cfg.stats.clone(), hub.clone());
    let settings = Settings {
        max_field_section_size: u64::from(cfg.http3.max_header_list_size),
        extended_connect: false,
        datagrams: cfg.http3.datagrams,
    };
    let link =
        Arc::new(Link { closing: AtomicBool::new(false), silent: AtomicBool::new(false), over: Mutex::new(None) });
    let drive = Drive {
        control: Control::new(conn.clone(), false, settings),
        reader: hub.map(|hub| HubReader::new(hub, conn.clone())),
        accept: Box::pin(async move { conn.accept_bi().await.map(drop) }),
        patience: Some(Box::pin(tokio::time::sleep(cfg.settings_timeout))),
        silence: Some(Silence::new(cfg.silence)),
        leaving: None,
        shared: shared.clone(),
        link: link.clone(),
    };
    let client = Client { shared, link, cfg, open: None, next: None };
    ClientParts { conn: Box::new(client), driver: Some(Box::pin(drive)) }
}

/// Between the driver and the connection's handle.
struct Link {
    /// Nothing is opened any more; the connection closes when its streams are done.
    closing: AtomicBool,
    /// The peer answers nothing any more, and likewise.
    silent: AtomicBool,
    /// The driver is done.
    over: Mutex<Option<StreamError>>,
}

/// Moves what is not a request until the connection ends.
struct Drive {
    shared: Arc<Shared>,
    link: Arc<Link>,
    control: Control,
    reader: Option<HubReader>,
    /// A stream that the server opened, or the end of the connection.
    accept: Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>>,
    /// Until the peer's SETTINGS came.
    patience: Option<Pin<Box<Sleep>>>,
    /// Until the peer is silent.
    silence: Option<Silence>,
    /// What was sent before the connection closes.
    leaving: Option<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Drive {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.shared.set_owner(cx);
        let read = match &mut self.reader {
            Some(reader) => reader.poll(cx, &self.shared),
            None => Ok(()),
        };
        if let Err(fatal) = read.and_then(|()| self.control.poll(cx, &self.shared)) {
            self.shared.fail(fatal);
        }
        self.shared.push_blocked(cx);
        if let Poll::Ready(accepted) = self.accept.as_mut().poll(cx) {
            if let Err(cause) = accepted {
                return Poll::Ready(self.ended(&cause));
            }
            // RFC 9114 section 6.1.
            self.shared.fail(Fatal(code::STREAM_CREATION_ERROR, "request from a server"));
            return Poll::Ready(Err(StreamError::Protocol(error::CODEC)));
        }
        if self.shared.fatal().is_some() {
            return Poll::Ready(Err(StreamError::Protocol(error::CODEC)));
        }
        if self.shared.peer.get().is_some() {
            self.patience = None;
        }
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(StreamError::TimedOut));
        }
        if let Some(silence) = &mut self.silence
            && silence.poll(cx, || self.shared.conn.stats().into()).is_ready()
        {
            self.silence = None;
            self.link.silent.store(true, Relaxed);
            self.shared.wake_ready();
        }
        ready!(self.poll_closing(cx));
        Poll::Ready(Ok(()))
    }

    fn ended(&self, cause: &ConnectionError) -> Result<(), StreamError> {
        if self.shared.fatal().is_some() {
            return Err(StreamError::Protocol(error::CODEC));
        }
        match error::connection(cause) {
            Some(StreamError::TimedOut) if self.shared.live() == 0 => Ok(()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Ready when nothing keeps the connection any more.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unwanted = [&self.link.closing, &self.link.silent].iter().any(|flag| flag.load(Relaxed));
        if !(unwanted || self.shared.goaway().is_some()) || self.shared.live() > 0 || self.shared.is_pushing() {
            return Poll::Pending;
        }
        let leaving = self.leaving.get_or_insert_with(|| departures(&self.shared));
        leaving.retain_mut(|stream| stream.as_mut().poll(cx).is_pending());
        if leaving.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Future for Drive {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.poll_end(cx));
        self.finish(result.err());
        Poll::Ready(result)
    }
}

impl Drive {
    fn finish(&mut self, error: Option<StreamError>) {
        lock(&self.link.over).get_or_insert(error.unwrap_or(StreamError::Stopped(ErrorCode::NoError)));
        self.shared.close(VarInt::from_u32(code::NO_ERROR));
        self.shared.wake_ready();
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.finish(Some(StreamError::Truncated));
    }
}

type Opened = (quinn::SendStream, quinn::RecvStream);
type Open = Pin<Box<dyn Future<Output = Result<Opened, ConnectionError>> + Send>>;

/// Opens streams on a connection that its driver moves.
struct Client {
    shared: Arc<Shared>,
    link: Arc<Link>,
    cfg: Arc<ClientConfig>,
    open: Option<Open>,
    /// A stream for the next request: the peer knows nothing of it yet.
    next: Option<Opened>,
}

impl Client {
    fn gone(&self) -> Option<StreamError> {
        if let Some(error) = *lock(&self.link.over) {
            return Some(error);
        }
        if self.link.closing.load(Relaxed) {
            return Some(StreamError::Local(ErrorCode::NoError));
        }
        if self.shared.goaway().is_some() {
            return Some(StreamError::Stopped(ErrorCode::NoError));
        }
        if self.link.silent.load(Relaxed) {
            return Some(StreamError::TimedOut);
        }
        None
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.next.is_none() {
            let open = self.open.get_or_insert_with(|| {
                let conn = self.shared.conn.clone();
                Box::pin(async move { conn.open_bi().await })
            });
            let opened = ready!(open.as_mut().poll(cx));
            self.open = None;
            self.next = Some(opened?);
        }
        Poll::Ready(Ok(()))
    }

    fn close(&mut self) {
        self.open = None;
        if let Some(unused) = self.next.take() {
            cancel(unused);
        }
        self.link.closing.store(true, Relaxed);
        self.shared.wake_owner();
        self.shared.wake_ready();
    }
}

/// Without a code quinn would end the stream, which is no request.
fn cancel((mut send, mut recv): Opened) {
    let _ = send.reset(VarInt::from_u32(code::REQUEST_CANCELLED));
    let _ = recv.stop(VarInt::from_u32(code::REQUEST_CANCELLED));
}

impl ClientConn for Client {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Capabilities, StreamError>> {
        if let Some(error) = self.gone() {
            return Poll::Ready(Err(error));
        }
        self.shared.set_ready(cx);
        if self.shared.peer.get().is_none() {
            return Poll::Pending;
        }
        let open = (self.cfg.max_concurrent_streams as usize).saturating_sub(self.shared.live());
        if open == 0 {
            return Poll::Pending;
        }
        if let Err(cause) = ready!(self.poll_next(cx)) {
            return Poll::Ready(Err(error::connection(&cause).unwrap_or(StreamError::Stopped(ErrorCode::NoError))));
        }
        let extended_connect = self.shared.peer().extended_connect;
        Poll::Ready(Ok(Capabilities { open, extended_connect, version: http::Version::HTTP_3 }))
    }

    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        if let Some(error) = self.gone() {
            return Err(error);
        }
        if matches!(head.kind, RequestKind::Upgrade(_)) && !self.shared.peer().extended_connect {
            return Err(StreamError::Protocol("http3.extended_connect_not_allowed"));
        }
        let (kind, no_body) = (head.kind.clone(), head.method == Method::HEAD);
        let block = head::request_block(head.clone(), self.shared.peer().max_field_section_size)?;
        let Some((send, recv)) = self.next.take() else { return Err(StreamError::Local(ErrorCode::Internal)) };
        let inbound = Inbound::new(recv, Role::Request, self.cfg.http3.max_header_list_size);
        let meter = inbound.meter.clone();
        let guard = StreamGuard::new(self.shared.clone(), meter.clone());
        let mut send = H3Send::new(send, guard.clone(), ErrorCode::Cancel);
        send.send_head(block, end)?;
        let pending = H3Pending {
            inbound: Some(inbound),
            recv: None,
            kind,
            no_body,
            guard,
            cfg: self.cfg.clone(),
            interim: 0,
            failed: None,
        };
        Ok(OutgoingStream { send: Box::new(send), response: Box::new(pending), meter })
    }

    fn live_streams(&self) -> usize {
        self.shared.live()
    }

    fn drain(&mut self) {
        self.close();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

struct H3Pending {
    /// Until the final head came.
    inbound: Option<Inbound>,
    recv: Option<H3Recv>,
    kind: RequestKind,
    no_body: bool,
    guard: Arc<StreamGuard>,
    cfg: Arc<ClientConfig>,
    interim: u8,
    failed: Option<StreamError>,
}

impl H3Pending {
    fn fail(&mut self, error: StreamError, code: u32) -> StreamError {
        if let Some(mut inbound) = self.inbound.take() {
            let _ = inbound.stream.stop(VarInt::from_u32(code));
        }
        self.guard.abandon();
        *self.failed.insert(error)
    }

    fn stopped(&mut self, stop: Stop) -> StreamError {
        let (error, code) = match stop {
            Stop::Fatal(fatal) => {
                self.guard.shared.fail(fatal);
                (StreamError::Protocol(error::CODEC), code::REQUEST_CANCELLED)
            }
            Stop::Reset(code) => {
                self.guard.shared.count(Counter::RxReset);
                (StreamError::Reset(error::from_wire(code)), code::REQUEST_CANCELLED)
            }
            Stop::Lost(cause) => {
                let id = self.inbound.as_ref().map(|inbound| inbound.stream.id());
                (id.map_or(error::lost(&cause), |id| self.guard.shared.lost(&cause, id)), code::REQUEST_CANCELLED)
            }
            Stop::Closed => (StreamError::Local(ErrorCode::Cancel), code::REQUEST_CANCELLED),
            // An answer without a head is none (RFC 9114 section 4.1).
            Stop::End => (StreamError::Protocol(error::MESSAGING), code::MESSAGE_ERROR),
            Stop::TooLarge => {
                self.guard.shared.count(Counter::HeaderOverflow);
                (StreamError::TooLarge("http3.too_many_headers"), code::EXCESSIVE_LOAD)
            }
        };
        self.fail(error, code)
    }

    fn take_head(&mut self, block: &[u8]) -> Result<ResponseHead, StreamError> {
        let limits = self.cfg.http3.limits();
        let response = match head::response(block, limits, &self.kind, self.no_body) {
            Ok(response) => response,
            Err(refusal) => return Err(self.refused(refusal)),
        };
        if response.head.status.is_informational() && !response.head.accepts(&self.kind) {
            self.interim = self.interim.saturating_add(1);
            if self.interim > MAX_INTERIM {
                let error = StreamError::TooLarge("http3.too_many_interim_responses");
                return Err(self.fail(error, code::EXCESSIVE_LOAD));
            }
            return Ok(response.head);
        }
        let accepted = response.head.accepts(&self.kind);
        if self.kind.is_tunnel() && !accepted {
            self.guard.set_refused();
        }
        let body = Body { length: response.length, limits, tunnel: accepted, abandon: code::REQUEST_CANCELLED };
        if let Some(inbound) = self.inbound.take() {
            let mut recv = H3Recv::new(inbound, self.guard.clone(), &body);
            if let Err(error) = recv.look_for_end() {
                return Err(self.fail(error, code::MESSAGE_ERROR));
            }
            self.recv = Some(recv);
        }
        Ok(response.head)
    }

    fn refused(&mut self, refusal: Refusal) -> StreamError {
        let shared = &self.guard.shared;
        let malformed_is_fatal = self.cfg.http3.malformed_is_fatal();
        let code = match refusal {
            Refusal::Malformed => {
                shared.count(Counter::RxMessagingError);
                if malformed_is_fatal {
                    shared.fail(Fatal(code::MESSAGE_ERROR, "malformed response"));
                }
                code::MESSAGE_ERROR
            }
            Refusal::TooLarge => {
                shared.count(Counter::HeaderOverflow);
                code::EXCESSIVE_LOAD
            }
            Refusal::Qpack => {
                shared.fail(Fatal(code::QPACK_DECOMPRESSION_FAILED, "bad field section"));
                code::REQUEST_CANCELLED
            }
        };
        self.fail(head::stream_error(refusal), code)
    }
}

impl PendingResponse for H3Pending {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Err(error));
        }
        let Some(inbound) = &mut self.inbound else {
            return Poll::Ready(Err(StreamError::Local(ErrorCode::Internal)));
        };
        Poll::Ready(match ready!(inbound.poll_frame(cx)) {
            Ok(Frame::Block(_, block)) => self.take_head(&block),
            Ok(Frame::Data(_)) => Err(self.stopped(Stop::Fatal(Fatal(code::FRAME_UNEXPECTED, "DATA before HEADERS")))),
            Err(stop) => Err(self.stopped(stop)),
        })
    }

    fn into_recv(mut self: Box<Self>) -> Box<dyn RecvStream> {
        match self.recv.take() {
            Some(recv) => Box::new(recv),
            None => Box::new(crate::recv::Misused),
        }
    }
}

impl Drop for H3Pending {
    fn drop(&mut self) {
        if let Some(mut inbound) = self.inbound.take() {
            let _ = inbound.stream.stop(VarInt::from_u32(code::REQUEST_CANCELLED));
            self.guard.abandon();
        }
    }
}
