//! The client of a request.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use adit_codec::{Responder, SendStream};
use adit_filter::{HttpFilter, LocalReply, ResponseHook, StreamInfo};
use adit_http::{ErrorCode, RequestHead, ResponseHead, StreamError};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::half::{Half, Writer};

/// What the client saw.
#[derive(Clone, Default)]
pub struct Client(Arc<Mutex<ClientState>>);

#[derive(Default)]
struct ClientState {
    informed: Vec<StatusCode>,
    head: Option<(ResponseHead, bool)>,
    reset: Option<ErrorCode>,
    gone: Option<StreamError>,
    waker: Option<Waker>,
    tunnel: bool,
}

impl Client {
    pub fn leave(&self, error: StreamError) {
        let mut state = self.0.lock().unwrap();
        state.gone = Some(error);
        state.waker.take().into_iter().for_each(Waker::wake);
    }

    pub fn status(&self) -> Option<u16> {
        self.0.lock().unwrap().head.as_ref().map(|(head, _)| head.status.as_u16())
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        state.head.as_ref()?.0.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    pub fn informed(&self) -> Vec<u16> {
        self.0.lock().unwrap().informed.iter().map(|status| status.as_u16()).collect()
    }

    pub fn reset(&self) -> Option<ErrorCode> {
        self.0.lock().unwrap().reset
    }

    pub fn tunnel(&self) -> bool {
        self.0.lock().unwrap().tunnel
    }
}

pub struct FakeResponder {
    pub client: Client,
    pub down: Half,
}

impl Responder for FakeResponder {
    fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        self.client.0.lock().unwrap().informed.push(head.status);
        Ok(())
    }

    fn respond(self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        self.client.0.lock().unwrap().head = Some((head, end));
        if end {
            self.down.finish();
        }
        Ok(Box::new(Writer(self.down.clone())))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.client.0.lock().unwrap();
        match state.gone {
            Some(error) => Poll::Ready(error),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn reset(self: Box<Self>, code: ErrorCode) {
        self.client.0.lock().unwrap().reset = Some(code);
    }
}

pub struct FakeHook(pub Client);

impl ResponseHook for FakeHook {
    fn keep_filter(&mut self, _filter: Box<dyn HttpFilter>) {}

    fn on_response(&mut self, _: &mut ResponseHead, _: &RequestHead, _: &mut StreamInfo, _: Instant) {}

    fn render_reply(
        &mut self,
        reply: LocalReply,
        _request: &RequestHead,
        _info: &mut StreamInfo,
        _now: Instant,
    ) -> (ResponseHead, Bytes) {
        let mut head = ResponseHead::new(reply.status);
        head.headers = reply.headers;
        (head, Bytes::from(reply.body.into_owned()))
    }

    fn on_tunnel(&mut self, _request: &RequestHead, _info: &mut StreamInfo) {
        self.0.0.lock().unwrap().tunnel = true;
    }
}
