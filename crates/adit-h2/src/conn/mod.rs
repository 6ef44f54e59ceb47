//! The state of one connection, shared by who drives it and by the halves of its streams.
//!
//! All of it is touched on one worker: the lock is uncontended and exists so that the halves are Send. Nothing here reads,
//! writes or waits; `wire` moves the octets.

mod body;
pub(crate) mod chunks;
mod flood;
mod frames;
mod life;
mod message;
mod outbound;
mod segments;
pub(crate) mod send;
pub(crate) mod stream;
pub(crate) mod streams;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use adit_codec::Meter;
use adit_http::{ErrorCode, RequestHead, StreamError};
use bytes::BytesMut;

use crate::config::FieldRules;
use crate::error::End;
use crate::frame::{self, DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, MAX_31};
use crate::hpack::{Decoder, Encoder};
use crate::{CodecStats, Http2Options, section};
use chunks::Chunks;
use flood::{Flood, Stats};
use message::OpenBlock;
use send::keep;
use streams::Streams;

pub(crate) use body::Target;
pub(crate) use message::MAX_INTERIM;
pub(crate) use outbound::Block;
pub(crate) use segments::Segments;

/// The PING that asks whether the peer is there.
const PING_ALIVE: [u8; 8] = *b"adit_are";
/// The PING behind the first GOAWAY of a drain: its answer comes behind every request that crossed the GOAWAY.
const PING_DRAIN: [u8; 8] = *b"adit_end";

/// A connection's state, and what never changes.
pub(crate) struct Link {
    core: Mutex<Core>,
    /// The code of a sending half that is dropped unfinished.
    pub(crate) abandon: ErrorCode,
}

impl Link {
    pub(crate) fn new(core: Core) -> Arc<Self> {
        let abandon = if core.is_server { ErrorCode::Internal } else { ErrorCode::Cancel };
        Arc::new(Self { core: Mutex::new(core), abandon })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the options say, in the form it is used.
#[derive(Debug, Clone, Copy)]
struct Limits {
    rules: FieldRules,
    max_list: usize,
    max_block: usize,
    max_frame: u32,
    stream_window: u32,
    connection_window: u32,
    table_size: u32,
    max_streams: usize,
    allow_connect: bool,
    strict_messages: bool,
    /// DATA frames queued between two flushes.
    max_queued: u32,
    /// Octets of DATA that one stream may have queued.
    max_send_buffer: u32,
}

/// What the peer's SETTINGS say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerSettings {
    /// They came: they are in force.
    pub(crate) came: bool,
    pub(crate) max_streams: usize,
    initial_window: u32,
    max_frame: u32,
    pub(crate) extended_connect: bool,
}

/// How far a drain has come (RFC 9113 section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// The first GOAWAY left, with the PING behind it.
    Told,
    /// The second GOAWAY names this stream as the last.
    Last(u32),
}

/// A request to be accepted.
pub(crate) struct Arrived {
    pub(crate) key: u32,
    pub(crate) head: RequestHead,
    /// It has neither content nor trailers.
    pub(crate) ended: bool,
    pub(crate) meter: Arc<Meter>,
}

/// The state of a connection.
pub(crate) struct Core {
    pub(crate) is_server: bool,
    secure: bool,
    /// The transport takes octets that lie in the kernel.
    pub(crate) splices: bool,
    limits: Limits,
    pub(crate) stats: Stats,
    flood: Flood,
    streams: Streams,
    chunks: Chunks,
    decoder: Decoder,
    encoder: Encoder,
    pub(crate) peer: PeerSettings,
    /// Our SETTINGS are not acknowledged yet.
    unacknowledged: bool,
    /// The header block under way.
    block: Option<Box<OpenBlock>>,
    /// Octets of DATA we may still send on all streams, less those that wait.
    send_window: i64,
    /// Octets of DATA the peer may still send on all streams.
    recv_window: i64,
    /// Octets that went onward and were not given back to the peer.
    unannounced: u32,
    /// Frames to be sent ahead of any DATA that waits.
    control: BytesMut,
    /// Streams with DATA to send, in turn.
    ready: VecDeque<u32>,
    /// Streams that wait for room in the connection's window, in their order.
    line: VecDeque<u32>,
    /// Streams that wait until the socket took what it was given.
    socket_waiters: Vec<u32>,
    /// The socket took less than it was given.
    blocked: bool,
    /// DATA frames queued since the socket last took all.
    queued_frames: u32,
    /// Octets of DATA that wait in streams, that wait behind them for the socket, and what the gauge was told.
    queued: u64,
    leaving: u64,
    told: u64,
    /// Streams whose halves somebody above holds.
    live: usize,
    accept: VecDeque<Arrived>,
    /// Requests among them that were reset.
    accept_resets: usize,
    drain: Drain,
    /// The GOAWAY that was sent last.
    said: Option<(u32, u32)>,
    /// The last stream the peer's GOAWAY names, and its code.
    goaway: Option<(u32, u32)>,
    /// How the connection ends, once that is sure.
    pub(crate) end: Option<End>,
    /// Nothing is opened any more, for this reason (client).
    pub(crate) over: Option<StreamError>,
    /// Whoever drives the connection.
    driver: Option<Waker>,
    /// Who waits for a stream to end so that another may be opened, and for the connection's end.
    opener: Option<Waker>,
    /// The PING for the keep-alive is out; its answer came.
    pub(crate) pong: bool,
    /// A PING is wanted ahead of a stream.
    pub(crate) ping_wanted: bool,
}

impl Core {
    pub(crate) fn new(
        options: &Http2Options,
        is_server: bool,
        secure: bool,
        stats: Option<Arc<dyn CodecStats>>,
    ) -> Self {
        let max_list = options.max_header_list_size as usize;
        let limits = Limits {
            rules: options.field_rules(),
            max_list,
            max_block: section::max_block(max_list),
            max_frame: options.frame_size(),
            stream_window: options.stream_window(),
            connection_window: options.connection_window(),
            table_size: options.table_size(),
            max_streams: options.max_concurrent_streams as usize,
            allow_connect: options.allow_connect,
            strict_messages: options.stream_error_on_invalid_http_message == Some(false),
            max_queued: options.max_outbound_frames,
            max_send_buffer: u32::try_from(options.max_send_buffer_size).unwrap_or(MAX_31).min(MAX_31),
        };
        let peer = PeerSettings {
            came: false,
            max_streams: usize::MAX,
            initial_window: DEFAULT_WINDOW,
            max_frame: DEFAULT_FRAME_SIZE,
            extended_connect: false,
        };
        let mut core = Self {
            is_server,
            secure,
            splices: false,
            limits,
            stats: Stats(stats),
            flood: Flood::new(options, is_server),
            streams: Streams::default(),
            chunks: Chunks::default(),
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            peer,
            unacknowledged: true,
            block: None,
            send_window: DEFAULT_WINDOW.into(),
            recv_window: DEFAULT_WINDOW.into(),
            unannounced: 0,
            control: BytesMut::new(),
            ready: VecDeque::new(),
            line: VecDeque::new(),
            socket_waiters: Vec::new(),
            blocked: false,
            queued_frames: 0,
            queued: 0,
            leaving: 0,
            told: 0,
            live: 0,
            accept: VecDeque::new(),
            accept_resets: 0,
            drain: Drain::No,
            said: None,
            goaway: None,
            end: None,
            over: None,
            driver: None,
            opener: None,
            pong: false,
            ping_wanted: false,
        };
        core.introduce();
        core
    }

    /// Our part of the preface (RFC 9113 section 3.4).
    fn introduce(&mut self) {
        let Limits { stream_window, connection_window, table_size, max_frame, .. } = self.limits;
        let mut entries = vec![
            (frame::SETTINGS_HEADER_TABLE_SIZE, table_size),
            (frame::SETTINGS_INITIAL_WINDOW_SIZE, stream_window),
            (frame::SETTINGS_MAX_FRAME_SIZE, max_frame),
            (frame::SETTINGS_MAX_HEADER_LIST_SIZE, u32::try_from(self.limits.max_list).unwrap_or(u32::MAX)),
        ];
        if self.is_server {
            entries.push((frame::SETTINGS_MAX_CONCURRENT_STREAMS, self.limits.max_streams as u32));
            if self.limits.allow_connect {
                entries.push((frame::SETTINGS_ENABLE_CONNECT_PROTOCOL, 1));
            }
        } else {
            entries.push((frame::SETTINGS_ENABLE_PUSH, 0));
            self.control.extend_from_slice(frame::PREFACE);
        }
        frame::settings(&entries, &mut self.control);
        let more = connection_window.saturating_sub(DEFAULT_WINDOW);
        if more > 0 {
            self.recv_window += i64::from(more);
            frame::window_update(0, more, &mut self.control);
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Streams that take a place of the peer's limit.
    pub(crate) fn busy(&self) -> usize {
        self.live.max(self.streams.open)
    }

    /// Whoever drives the connection has something to do.
    pub(crate) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    pub(crate) fn set_driver(&mut self, cx: &Context<'_>) {
        keep(&mut self.driver, cx);
    }

    pub(crate) fn forget_driver(&mut self) {
        self.driver = None;
    }

    pub(crate) fn set_opener(&mut self, cx: &Context<'_>) {
        keep(&mut self.opener, cx);
    }

    pub(crate) fn wake_opener(&mut self) {
        if let Some(waker) = self.opener.take() {
            waker.wake();
        }
    }

    /// A PING for the keep-alive.
    pub(crate) fn send_ping(&mut self) {
        self.pong = false;
        frame::ping(0, PING_ALIVE, self.control());
        self.wake_driver();
    }
}

#[cfg(test)]
mod tests;
