//! The halves of a stream.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use adit_http::{ErrorCode, RequestHead, ResponseHead, StreamError, hop_by_hop};
use adit_io::{ByteSink, ByteSource};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::exchange::{DOWN, Exchange, Pipe, UP};
use super::lock;
use crate::{IncomingStream, OutgoingStream, PendingResponse, RecvStream, Responder, SendStream};

/// Interim heads that wait for their reader.
const MAX_HEADS: usize = 100;

type Shared = Arc<Mutex<Exchange>>;

pub(super) fn ends(exchange: &Shared, mut head: RequestHead, end: bool) -> (OutgoingStream, IncomingStream) {
    hop_by_hop::strip(&mut head.headers, head.kind.is_tunnel());
    lock(exchange).pipes[UP].ended = end;
    let send = Box::new(Half { exchange: exchange.clone(), pipe: UP, done: end });
    let response = Box::new(Pending { exchange: exchange.clone(), done: false });
    let recv = Box::new(Half { exchange: exchange.clone(), pipe: UP, done: false });
    let responder = Box::new(Answer { exchange: exchange.clone(), done: false });
    (
        OutgoingStream { send, response, meter: None },
        IncomingStream { head, recv: Box::new(Recv(*recv)), responder, meter: None },
    )
}

/// The sending half; or, inside [`Recv`], the receiving one.
struct Half {
    exchange: Shared,
    pipe: usize,
    /// Ended or failed: a drop says nothing.
    done: bool,
}

impl Half {
    fn with<T>(&mut self, change: impl FnOnce(&mut Pipe) -> T) -> T {
        let mut exchange = lock(&self.exchange);
        let result = exchange.pipes.get_mut(self.pipe).map(change).expect("one of two");
        exchange.changed();
        result
    }

    /// Looks at the pipe, which says what came of it, if anything did, and whether the other end is to be told.
    fn poll<T>(&mut self, cx: &Context<'_>, look: impl FnOnce(&mut Pipe) -> (Option<T>, bool)) -> Poll<T> {
        let mut exchange = lock(&self.exchange);
        let (result, changed) = exchange.pipes.get_mut(self.pipe).map(look).expect("one of two");
        if changed {
            exchange.changed();
        }
        match result {
            Some(result) => Poll::Ready(result),
            None => {
                exchange.wakers.wait(cx);
                Poll::Pending
            }
        }
    }

    fn guard(&self) -> MutexGuard<'_, Exchange> {
        lock(&self.exchange)
    }
}

impl ByteSink for Half {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        let polled = self.poll(cx, |pipe| {
            if pipe.ended {
                let late = StreamError::Local(ErrorCode::StreamClosed);
                return (Some(if data.is_empty() { Ok(()) } else { Err(late) }), false);
            }
            if let Some(error) = pipe.write_error() {
                return (Some(Err(error)), false);
            }
            let before = data.len();
            pipe.push(data);
            pipe.ended = end && data.is_empty();
            (data.is_empty().then_some(Ok(())), before != data.len() || pipe.ended)
        });
        if let Poll::Ready(result) = &polled {
            self.done |= end || result.is_err();
        }
        polled
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(self.guard().pipes.get(self.pipe).and_then(Pipe::write_error).map_or(Ok(()), Err))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.poll(cx, |pipe| (pipe.write_error(), false))
    }

    fn reset(&mut self, code: ErrorCode) {
        if !self.done {
            self.done = true;
            self.with(|pipe| pipe.reset(code));
        }
    }
}

impl SendStream for Half {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.with(|pipe| {
            if !pipe.ended {
                pipe.trailers = Some(trailers.clone());
            }
        });
        self.poll_send(cx, &mut Bytes::new(), true)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.reset(ErrorCode::Cancel);
    }
}

struct Recv(Half);

impl ByteSource for Recv {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll(cx, |pipe| {
            if let Some(code) = pipe.stopped {
                return (Some(Some(Err(StreamError::Local(code)))), false);
            }
            if let Some(code) = pipe.reset {
                return (Some(Some(Err(StreamError::Reset(code)))), false);
            }
            match pipe.pop(max) {
                Some(data) => (Some(Some(Ok(data))), true),
                None => (pipe.ended.then_some(None), false),
            }
        })
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.with(|pipe| pipe.stop(code));
    }
}

impl RecvStream for Recv {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Ok(self.0.with(|pipe| pipe.trailers.take())))
    }

    fn is_end(&self) -> bool {
        self.0
            .guard()
            .pipes
            .get(self.0.pipe)
            .is_some_and(|pipe| pipe.ended && pipe.is_empty() && pipe.trailers.is_none())
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        self.stop(ErrorCode::Cancel);
        // The inner half is the sender's in type only.
        self.0.done = true;
    }
}

struct Answer {
    exchange: Shared,
    done: bool,
}

impl Responder for Answer {
    fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(StreamError::Local(ErrorCode::Internal));
        }
        self.queue(head)
    }

    fn respond(mut self: Box<Self>, mut head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if head.status.is_informational() && !switched {
            return Err(StreamError::Local(ErrorCode::Internal));
        }
        hop_by_hop::strip(&mut head.headers, switched);
        self.queue(head)?;
        self.done = true;
        let mut half = Half { exchange: self.exchange.clone(), pipe: DOWN, done: end };
        half.with(|pipe| pipe.ended |= end);
        Ok(Box::new(half))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut exchange = lock(&self.exchange);
        let [up, down] = &exchange.pipes;
        match down.write_error().or(up.reset.map(StreamError::Reset)) {
            Some(error) => Poll::Ready(error),
            None => {
                exchange.wakers.wait(cx);
                Poll::Pending
            }
        }
    }

    fn reset(mut self: Box<Self>, code: ErrorCode) {
        self.done = true;
        lock(&self.exchange).reset(code);
    }
}

impl Answer {
    fn queue(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        let mut exchange = lock(&self.exchange);
        if let Some(error) = exchange.pipes[DOWN].write_error() {
            return Err(error);
        }
        if exchange.heads.len() >= MAX_HEADS {
            return Err(StreamError::TooLarge("response_flood"));
        }
        exchange.heads.push_back(head);
        exchange.changed();
        Ok(())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.exchange).reset(ErrorCode::Cancel);
        }
    }
}

struct Pending {
    exchange: Shared,
    done: bool,
}

impl PendingResponse for Pending {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        let mut exchange = lock(&self.exchange);
        if let Some(head) = exchange.heads.pop_front() {
            return Poll::Ready(Ok(head));
        }
        if let Some(code) = exchange.pipes[DOWN].reset {
            return Poll::Ready(Err(StreamError::Reset(code)));
        }
        exchange.wakers.wait(cx);
        Poll::Pending
    }

    fn into_recv(mut self: Box<Self>) -> Box<dyn RecvStream> {
        self.done = true;
        Box::new(Recv(Half { exchange: self.exchange.clone(), pipe: DOWN, done: false }))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            let mut exchange = lock(&self.exchange);
            exchange.pipes[UP].reset(ErrorCode::Cancel);
            exchange.pipes[DOWN].stop(ErrorCode::Cancel);
            exchange.changed();
        }
    }
}
