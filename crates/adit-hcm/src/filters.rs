//! A request on its way through the filters of its chain.

use std::task::{Context, Poll};
use std::time::Duration;

use adit_codec::RecvStream;
use adit_filter::{HttpStream, LocalReply, ResponseFlag, Verdict};
use adit_http::{ErrorCode, RequestKind, StreamError};
use adit_io::ByteSource;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Whether the request got past the filters; if not, it was answered, or its client is gone.
pub(crate) async fn enter(stream: &mut HttpStream, filters: Vec<Box<dyn adit_filter::HttpFilter>>) -> bool {
    match run_filters(stream, filters).await {
        Ok(()) => return true,
        Err(FilterEnd::Reply(reply)) => {
            // A client that left has nothing to be told.
            let _ = stream.reply(*reply).await;
        }
        Err(FilterEnd::Client(error)) => {
            stream.client_gone(error);
            stream.reject(error).await;
        }
    }
    false
}

enum FilterEnd {
    Reply(Box<LocalReply>),
    Client(StreamError),
}

/// Shows the head to each filter. The filters then wait in the response path, where they see the answer.
async fn run_filters(stream: &mut HttpStream, filters: Vec<Box<dyn adit_filter::HttpFilter>>) -> Result<(), FilterEnd> {
    let mut filters = filters.into_iter();
    let result = show_request(stream, &mut filters).await;
    if result.is_err() {
        // The answer, also that to a request that breaks the protocol, passes through every filter of the chain, as in Envoy, also those that never saw the request.
        for filter in filters {
            stream.keep_filter(filter);
        }
    }
    result
}

async fn show_request(
    stream: &mut HttpStream,
    filters: &mut std::vec::IntoIter<Box<dyn adit_filter::HttpFilter>>,
) -> Result<(), FilterEnd> {
    for mut filter in filters {
        let end = stream.recv.as_ref().is_none_or(|recv| recv.is_end());
        let mut verdict = filter.on_request(stream, end);
        if let Verdict::Delay(_) | Verdict::Wait(_) = verdict {
            if let Err(error) = wait(stream, verdict).await {
                stream.keep_filter(filter);
                return Err(FilterEnd::Client(error));
            }
            verdict = filter.after_delay(stream);
        }
        stream.keep_filter(filter);
        match verdict {
            Verdict::Continue => {}
            Verdict::Delay(_) | Verdict::Wait(_) => wait(stream, verdict).await.map_err(FilterEnd::Client)?,
            Verdict::Buffer(limit) => buffer(stream, limit).await?,
            Verdict::Reply(reply) => return Err(FilterEnd::Reply(Box::new(reply))),
        }
    }
    Ok(())
}

async fn wait(stream: &mut HttpStream, verdict: Verdict) -> Result<(), StreamError> {
    let done = async {
        match verdict {
            Verdict::Delay(delay) => tokio::time::sleep(delay).await,
            Verdict::Wait(waiting) => waiting.0.await,
            Verdict::Continue | Verdict::Buffer(_) | Verdict::Reply(_) => {}
        }
    };
    tokio::select! {
        () = done => Ok(()),
        error = std::future::poll_fn(|cx| stream.poll_cancelled(cx)) => Err(error),
    }
}

/// Holds the whole body in memory, at most `limit` bytes: then the chain goes on.
async fn buffer(stream: &mut HttpStream, limit: u64) -> Result<(), FilterEnd> {
    let Some(mut recv) = stream.recv.take() else { return Ok(()) };
    if recv.is_end() {
        stream.recv = Some(recv);
        return Ok(());
    }
    let too_large = || {
        let reply = LocalReply::new(StatusCode::PAYLOAD_TOO_LARGE, "request_payload_too_large");
        FilterEnd::Reply(Box::new(reply.body("Payload Too Large")))
    };
    let mut held = BytesMut::new();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = std::future::poll_fn(|cx| recv.poll_chunk(cx, 16 * 1024)) => chunk,
            () = idle(stream.idle_timeout) => {
                let reply = LocalReply::new(StatusCode::REQUEST_TIMEOUT, "stream_idle_timeout");
                return Err(FilterEnd::Reply(Box::new(reply.body("stream timeout").flag(ResponseFlag::StreamIdleTimeout))));
            }
        };
        match chunk {
            Some(Ok(chunk)) => {
                stream.info.bytes_received += chunk.len() as u64;
                if (held.len() + chunk.len()) as u64 > limit {
                    return Err(too_large());
                }
                held.extend_from_slice(&chunk);
            }
            Some(Err(error)) => return Err(FilterEnd::Client(error)),
            None => break,
        }
    }
    let trailers = std::future::poll_fn(|cx| recv.poll_trailers(cx)).await.map_err(FilterEnd::Client)?;
    if matches!(stream.request.kind, RequestKind::Plain) {
        stream.request.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(held.len()));
    }
    stream.info.timing.request_received = Some(stream.info.elapsed());
    // Counted again by who takes it.
    stream.info.bytes_received = 0;
    stream.recv = Some(Box::new(Held { body: held.freeze(), trailers }));
    Ok(())
}

async fn idle(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// A body that is all in memory.
struct Held {
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl ByteSource for Held {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.body.is_empty() {
            return Poll::Ready(None);
        }
        let n = self.body.len().min(max.max(1));
        Poll::Ready(Some(Ok(self.body.split_to(n))))
    }

    fn stop(&mut self, _code: ErrorCode) {
        self.body = Bytes::new();
    }
}

impl RecvStream for Held {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Ok(self.trailers.take()))
    }

    fn is_end(&self) -> bool {
        self.body.is_empty() && self.trailers.is_none()
    }
}
