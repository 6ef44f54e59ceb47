//! The serving side of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_codec::{ConnError, IncomingStream, Responder, SendStream, ServerConn};
use adit_http::{ErrorCode, RequestKind, ResponseHead, StreamError};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use quinn::{ConnectionError, VarInt};
use tokio::time::Sleep;

use crate::control::Control;
use crate::endpoint::QuicConnection;
use crate::error::{self, Fatal, code};
use crate::fields::Refusal;
use crate::frame::{Frame, Role};
use crate::head;
use crate::hub::{Hub, HubReader};
use crate::inbound::{Inbound, Stop};
use crate::recv::{Body, H3Recv};
use crate::send::H3Send;
use crate::settings::Settings;
use crate::shared::{Shared, StreamGuard};
use crate::{Counter, ServerConfig, varint};

/// Between the GOAWAY that announces a drain and the one that names the last stream, at least: requests under way arrive
/// meanwhile (RFC 9114 section 5.2).
const DRAIN_NOTICE: Duration = Duration::from_millis(100);
/// After the last stream of a drained connection is done, for the client to close it itself.
const DRAIN_LINGER: Duration = Duration::from_secs(1);
/// Says in the canonical form that a request came in 0-RTT data (RFC 8470 section 5.1).
const EARLY_DATA: &str = "early-data";

type Accept = Pin<Box<dyn Future<Output = Result<(quinn::SendStream, quinn::RecvStream), ConnectionError>> + Send>>;

/// Serves HTTP/3 on a connection whose handshake is done, or in 0-RTT.
pub fn server(conn: QuicConnection, cfg: Arc<ServerConfig>) -> Server {
    let conn = conn.0;
    let hub = cfg.http3.datagrams.then(Arc::<Hub>::default);
    let shared = Shared::new(conn.clone(), cfg.stats.clone(), hub.clone());
    let settings = Settings {
        max_field_section_size: u64::from(cfg.http3.max_header_list_size),
        extended_connect: cfg.http3.allow_extended_connect,
        datagrams: cfg.http3.datagrams,
    };
    Server {
        control: Box::new(Control::new(conn.clone(), true, settings)),
        reader: hub.map(|hub| HubReader::new(hub, conn)),
        shared,
        cfg,
        accept: None,
        heads: Vec::new(),
        next_id: 0,
        drain: Drain::No,
        over: false,
    }
}

/// One HTTP/3 connection from a client.
pub struct Server {
    shared: Arc<Shared>,
    cfg: Arc<ServerConfig>,
    control: Box<Control>,
    reader: Option<HubReader>,
    accept: Option<Accept>,
    /// Streams whose request head is not complete; as many as the transport lets the client open.
    heads: Vec<Head>,
    /// The id that follows the last accepted stream's.
    next_id: u64,
    drain: Drain,
    over: bool,
}

enum Drain {
    No,
    /// The client was told; new streams are still taken.
    Notice(Pin<Box<Sleep>>),
    /// No stream from this id on is taken; live ones finish.
    Last(u64),
    /// Every stream is done; what they sent is on its way.
    Leaving(Vec<Pin<Box<dyn Future<Output = ()> + Send>>>),
    /// The client has everything and may close.
    Linger(Pin<Box<Sleep>>),
}

impl Server {
    /// Everything but requests.
    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        let result = match &mut self.reader {
            Some(reader) => reader.poll(cx, &self.shared),
            None => Ok(()),
        };
        if let Err(fatal) = result.and_then(|()| self.control.poll(cx, &self.shared)) {
            self.shared.fail(fatal);
        }
        self.shared.push_blocked(cx);
    }

    /// Takes every stream that the client opened; `Err` when the connection ended.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        loop {
            let accept = self.accept.get_or_insert_with(|| {
                let conn = self.shared.conn.clone();
                Box::pin(async move { conn.accept_bi().await })
            });
            let Poll::Ready(accepted) = accept.as_mut().poll(cx) else { return Ok(()) };
            self.accept = None;
            let (send, recv) = accepted?;
            let id = u64::from(recv.id());
            let inbound = Inbound::new(recv, Role::Request, self.cfg.http3.max_header_list_size);
            let mut head = Head { stream: Some((send, inbound)) };
            match self.drain {
                Drain::Last(limit) if id >= limit => head.refuse(code::REQUEST_REJECTED),
                Drain::Leaving(_) | Drain::Linger(_) => head.refuse(code::REQUEST_REJECTED),
                _ => {
                    self.next_id = self.next_id.max(id + 4);
                    self.heads.push(head);
                }
            }
        }
    }

    /// The next request whose head is complete.
    fn poll_heads(&mut self, cx: &mut Context<'_>) -> Option<IncomingStream> {
        let mut index = 0;
        while let Some(head) = self.heads.get_mut(index) {
            match head.poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(outcome) => {
                    // In order, so that requests are taken as they came.
                    let head = self.heads.remove(index);
                    if let Some(incoming) = self.finish_head(head, outcome) {
                        return Some(incoming);
                    }
                }
            }
        }
        None
    }

    fn finish_head(&mut self, mut head: Head, outcome: Outcome) -> Option<IncomingStream> {
        match outcome {
            Outcome::Block(block) => {
                let (send, inbound) = head.stream.take()?;
                self.admit(&block, send, inbound)
            }
            Outcome::TooLarge => {
                let (send, inbound) = head.stream.take()?;
                self.answer_too_large(send, inbound);
                None
            }
            Outcome::Reset(counter) => {
                if let Some(counter) = counter {
                    self.shared.count(counter);
                }
                head.refuse(code::REQUEST_CANCELLED);
                None
            }
            Outcome::Incomplete => {
                head.refuse(code::REQUEST_INCOMPLETE);
                None
            }
            Outcome::Fatal(fatal) => {
                self.shared.fail(fatal);
                None
            }
        }
    }

    /// Gives a good request its form; answers a bad one.
    fn admit(&mut self, block: &[u8], send: quinn::SendStream, inbound: Inbound) -> Option<IncomingStream> {
        let options = &self.cfg.http3;
        let request = match head::request(block, options.limits(), options.allow_extended_connect) {
            Ok(request) => request,
            Err(Refusal::TooLarge) => {
                self.answer_too_large(send, inbound);
                return None;
            }
            Err(Refusal::Qpack) => {
                self.shared.fail(Fatal(code::QPACK_DECOMPRESSION_FAILED, "bad field section"));
                return None;
            }
            Err(Refusal::Malformed) => {
                self.refuse_malformed(send, inbound);
                return None;
            }
        };
        let mut head = request.head;
        if inbound.stream.is_0rtt() {
            head.headers.insert(EARLY_DATA, HeaderValue::from_static("1"));
        }
        let kind = head.kind.clone();
        let meter = inbound.meter.clone();
        let guard = StreamGuard::new(self.shared.clone(), meter.clone());
        let body = Body {
            length: request.length,
            limits: options.limits(),
            tunnel: kind.is_tunnel(),
            // What nobody reads of a request whose answer stands on its own (RFC 9114 section 4.1.2).
            abandon: if kind.is_tunnel() { code::REQUEST_CANCELLED } else { code::NO_ERROR },
        };
        let mut recv = H3Recv::new(inbound, guard.clone(), &body);
        let mut send = H3Send::new(send, guard, ErrorCode::Internal);
        if recv.look_for_end().is_err() {
            send.reset_with(VarInt::from_u32(code::MESSAGE_ERROR));
            self.fail_if_malformed_is_fatal();
            return None;
        }
        let responder = H3Responder { send: Some(send), kind };
        Some(IncomingStream { head, recv: Box::new(recv), responder: Box::new(responder), meter })
    }

    fn refuse_malformed(&mut self, send: quinn::SendStream, inbound: Inbound) {
        self.shared.count(Counter::RxMessagingError);
        self.shared.count(Counter::TxReset);
        Head { stream: Some((send, inbound)) }.refuse(code::MESSAGE_ERROR);
        self.fail_if_malformed_is_fatal();
    }

    fn fail_if_malformed_is_fatal(&self) {
        if self.cfg.http3.malformed_is_fatal() {
            self.shared.fail(Fatal(code::MESSAGE_ERROR, "malformed request"));
        }
    }

    fn answer_too_large(&mut self, send: quinn::SendStream, mut inbound: Inbound) {
        self.shared.count(Counter::HeaderOverflow);
        let _ = inbound.stream.stop(VarInt::from_u32(code::EXCESSIVE_LOAD));
        let guard = StreamGuard::new(self.shared.clone(), None);
        let mut send = H3Send::new(send, guard, ErrorCode::EnhanceYourCalm);
        let head = ResponseHead::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        if let Ok(block) = head::answer_block(head, &RequestKind::Plain, u64::MAX) {
            // Fails only when the client has stopped reading.
            let _ = send.send_head(block, true);
        }
    }

    /// Goes on with a drain; ready when the connection may be closed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.drain {
                Drain::No => return Poll::Pending,
                Drain::Notice(notice) => {
                    // An idle connection needs no notice; but what is under way to it does.
                    ready!(notice.as_mut().poll(cx));
                    self.control.goaway(self.next_id);
                    self.drain = Drain::Last(self.next_id);
                    self.poll_connection(cx);
                }
                Drain::Last(_) if self.shared.live() > 0 || self.shared.is_pushing() || !self.heads.is_empty() => {
                    return Poll::Pending;
                }
                Drain::Last(_) => self.drain = Drain::Leaving(departures(&self.shared)),
                Drain::Leaving(streams) => {
                    streams.retain_mut(|stream| stream.as_mut().poll(cx).is_pending());
                    if !streams.is_empty() {
                        return Poll::Pending;
                    }
                    self.drain = Drain::Linger(Box::pin(tokio::time::sleep(DRAIN_LINGER)));
                }
                Drain::Linger(linger) => return linger.as_mut().poll(cx),
            }
        }
    }

    fn ended(&mut self, cause: &ConnectionError) -> Option<Result<IncomingStream, ConnError>> {
        self.over = true;
        self.heads.clear();
        let failed = |error, details| Some(Err(ConnError { error, answered: None, details }));
        if self.shared.fatal().is_some() {
            return failed(StreamError::Protocol(error::CODEC), error::CODEC);
        }
        match error::connection(cause) {
            None => None,
            // An idle connection ends so by itself.
            Some(StreamError::TimedOut) if self.shared.live() == 0 => None,
            Some(StreamError::TimedOut) => failed(StreamError::TimedOut, "quic.idle_timeout"),
            Some(error) => failed(error, "quic.connection_closed"),
        }
    }
}

/// Futures that end when the peer has all of a direction that was let go.
pub(crate) fn departures(shared: &Shared) -> Vec<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let streams = shared.take_departures();
    streams
        .into_iter()
        .map(|stream| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                let _ = stream.stopped().await;
            })
        })
        .collect()
}

impl ServerConn for Server {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.shared.set_owner(cx);
        self.poll_connection(cx);
        if let Err(cause) = self.poll_streams(cx) {
            return Poll::Ready(self.ended(&cause));
        }
        if let Some(incoming) = self.poll_heads(cx) {
            return Poll::Ready(Some(Ok(incoming)));
        }
        // A head may have ended the connection.
        if let Some(cause) = self.shared.conn.close_reason() {
            return Poll::Ready(self.ended(&cause));
        }
        if self.poll_drain(cx).is_ready() {
            self.shared.close(VarInt::from_u32(code::NO_ERROR));
            self.over = true;
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn drain(&mut self) {
        if matches!(self.drain, Drain::No) && !self.over {
            self.shared.count(Counter::GoawaySent);
            self.control.goaway(varint::MAX - 3);
            let notice = DRAIN_NOTICE.max(self.shared.conn.rtt());
            self.drain = Drain::Notice(Box::pin(tokio::time::sleep(notice)));
        }
    }

    fn abort(&mut self, code: ErrorCode) {
        self.shared.close(error::wire(code));
    }

    fn live_streams(&self) -> usize {
        self.shared.live()
    }
}

impl Drop for Server {
    /// Nobody drives the connection any more.
    fn drop(&mut self) {
        self.shared.close(VarInt::from_u32(code::NO_ERROR));
    }
}

/// A stream before its request.
struct Head {
    /// `None` once it is somebody else's.
    stream: Option<(quinn::SendStream, Inbound)>,
}

enum Outcome {
    Block(Bytes),
    TooLarge,
    Reset(Option<Counter>),
    Incomplete,
    Fatal(Fatal),
}

impl Head {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some((_, inbound)) = &mut self.stream else { return Poll::Ready(Outcome::Reset(None)) };
        Poll::Ready(match ready!(inbound.poll_frame(cx)) {
            Ok(Frame::Block(_, block)) => Outcome::Block(block),
            Ok(Frame::Data(_)) => Outcome::Fatal(Fatal(code::FRAME_UNEXPECTED, "DATA before HEADERS")),
            Err(Stop::End) => Outcome::Incomplete,
            Err(Stop::Reset(_)) => Outcome::Reset(Some(Counter::RxReset)),
            Err(Stop::Lost(_) | Stop::Closed) => Outcome::Reset(None),
            Err(Stop::Fatal(fatal)) => Outcome::Fatal(fatal),
            Err(Stop::TooLarge) => Outcome::TooLarge,
        })
    }

    fn refuse(&mut self, code: u32) {
        if let Some((mut send, mut inbound)) = self.stream.take() {
            let _ = send.reset(VarInt::from_u32(code));
            let _ = inbound.stream.stop(VarInt::from_u32(code));
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.refuse(code::REQUEST_REJECTED);
    }
}

struct H3Responder {
    /// Taken when the answer is given.
    send: Option<H3Send>,
    kind: RequestKind,
}

impl H3Responder {
    fn max_section(send: &H3Send) -> u64 {
        send.shared().peer().max_field_section_size
    }
}

impl Responder for H3Responder {
    fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        let Some(send) = &mut self.send else { return Err(StreamError::Local(ErrorCode::Internal)) };
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(StreamError::Local(ErrorCode::Internal));
        }
        let block = head::answer_block(head, &RequestKind::Plain, Self::max_section(send))?;
        send.send_head(block, false)
    }

    fn respond(mut self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        let Some(mut send) = self.send.take() else { return Err(StreamError::Local(ErrorCode::Internal)) };
        let block = head::answer_block(head, &self.kind, Self::max_section(&send))?;
        send.send_head(block, end)?;
        Ok(Box::new(send))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        use adit_io::ByteSink;
        match &mut self.send {
            Some(send) => send.poll_stopped(cx),
            None => Poll::Pending,
        }
    }

    fn reset(mut self: Box<Self>, code: ErrorCode) {
        use adit_io::ByteSink;
        if let Some(mut send) = self.send.take() {
            send.reset(code);
        }
    }
}
