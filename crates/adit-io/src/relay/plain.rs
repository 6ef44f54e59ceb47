//! The lane between two plain sockets, or from one to what takes spliced bytes: through the thread's scratch buffer, and through a pipe once there is bulk.
//!
//! Nothing is held while idle: a scratch buffer belongs to its thread, a pipe returns to its pool as soon as it is empty.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::lane::{Failure, Lane};
use super::pipe::{Pipe, Spliced, is_refusal};
use crate::{ByteSink, scratch, tcp};

/// A read from here on counts towards splicing; one below it counts away from it.
const BULK_READ: usize = 16 << 10;

/// Bulk reads in a row after which splicing begins.
const BULK_READS: u8 = 4;

/// Small splices in a row after which copying begins again.
const SMALL_SPLICES: u8 = 4;

/// How a plain lane moves bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Through the scratch buffer; so many bulk reads came in a row.
    Copy(u8),
    /// Through a pipe; so many small reads came in a row.
    Splice(u8),
    /// Through the scratch buffer only: these sockets cannot be spliced.
    CopyOnly,
}

impl Default for Mode {
    fn default() -> Self {
        Self::Copy(0)
    }
}

/// Reads once and writes it on as far as it goes; `false` at the end of the source. What the sink did not take is in
/// `held` or in the lane's pipe afterwards, which both were empty before.
pub(super) fn poll_move(
    lane: &mut Lane,
    cx: &mut Context<'_>,
    from: &TcpStream,
    to: &TcpStream,
    limit: usize,
    held: &mut Bytes,
) -> Poll<Result<bool, Failure>> {
    loop {
        ready!(from.poll_read_ready(cx)).map_err(|error| Failure::Source(error.into()))?;
        let read = match lane.mode {
            Mode::Splice(_) => splice_once(lane, from, to, limit, held)?,
            Mode::Copy(_) | Mode::CopyOnly => copy_once(lane, from, to, limit, held)?,
        };
        match read {
            Some(0) => return Poll::Ready(Ok(false)),
            Some(_) => return Poll::Ready(Ok(true)),
            None => {}
        }
    }
}

/// `None` when the source has nothing.
fn copy_once(
    lane: &mut Lane,
    from: &TcpStream,
    to: &TcpStream,
    limit: usize,
    held: &mut Bytes,
) -> Result<Option<usize>, Failure> {
    scratch::with(limit, |buffer| {
        let read = match tcp::read(from, buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(Failure::Source(error.into())),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        if !bytes.is_empty() {
            let written = match tcp::write(to, bytes) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(Failure::Sink(error.into())),
            };
            lane.moved(written);
            *held = Bytes::copy_from_slice(bytes.get(written..).unwrap_or_default());
        }
        count_read(lane, read, limit);
        Ok(Some(read))
    })
}

/// `None` when the source has nothing, or when the lane was switched to copying.
fn splice_once(
    lane: &mut Lane,
    from: &TcpStream,
    to: &TcpStream,
    limit: usize,
    held: &mut Bytes,
) -> Result<Option<usize>, Failure> {
    let Some(pipe) = Pipe::take() else {
        lane.mode = Mode::Copy(0);
        return copy_once(lane, from, to, limit, held);
    };
    let mut pipe = match fill(lane, from, pipe, limit)? {
        Filled::Pipe(pipe) => pipe,
        Filled::Nothing => return Ok(None),
        Filled::End => return Ok(Some(0)),
    };
    let read = pipe.len;
    let result = drain(lane, &mut pipe, to);
    if pipe.len == 0 {
        pipe.give_back();
    } else {
        lane.pipe = Some(pipe);
    }
    result.map(|()| Some(read))
}

/// What came of splicing from a socket.
enum Filled {
    Pipe(Box<Pipe>),
    /// The socket has nothing, or cannot be spliced, which the lane's mode says.
    Nothing,
    End,
}

/// Splices from the socket into an empty pipe.
fn fill(lane: &mut Lane, from: &TcpStream, mut pipe: Box<Pipe>, limit: usize) -> Result<Filled, Failure> {
    let read = match pipe.read_from(from, limit) {
        Ok(read) => read,
        Err(error) => {
            pipe.give_back();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Filled::Nothing),
                _ if is_refusal(&error) => {
                    lane.mode = Mode::CopyOnly;
                    Ok(Filled::Nothing)
                }
                _ => Err(Failure::Source(error.into())),
            };
        }
    };
    if read == 0 {
        pipe.give_back();
        return Ok(Filled::End);
    }
    lane.mode = match lane.mode {
        Mode::Splice(count) if read < BULK_READ && count + 1 >= SMALL_SPLICES => Mode::Copy(0),
        Mode::Splice(count) if read < BULK_READ => Mode::Splice(count.saturating_add(1)),
        _ => Mode::Splice(0),
    };
    Ok(Filled::Pipe(pipe))
}

/// Counts a read of a lane from a socket, which splices once there is bulk.
pub(super) fn count_read(lane: &mut Lane, read: usize, limit: usize) {
    lane.mode = match lane.mode {
        Mode::Copy(count) if read >= BULK_READ && count + 1 >= BULK_READS && limit >= scratch::SIZE => Mode::Splice(0),
        Mode::Copy(count) if read >= BULK_READ => Mode::Copy(count.saturating_add(1)),
        Mode::Copy(_) => Mode::Copy(0),
        other => other,
    };
}

/// Splices once from a socket into the lane's pipe, for a sink that takes spliced bytes; `false` at the end of the source,
/// `None` when the lane is to read into memory instead.
pub(super) fn poll_pass(
    lane: &mut Lane,
    cx: &mut Context<'_>,
    from: &TcpStream,
    sink: &mut dyn ByteSink,
    limit: usize,
) -> Poll<Result<Option<bool>, Failure>> {
    let room = match sink.poll_splice(cx).map_err(Failure::Sink)? {
        Poll::Ready(None) => return Poll::Ready(Ok(None)),
        Poll::Ready(Some(room)) => room,
        // As with bytes in memory: some are taken in hand, and an end or a reset is seen.
        Poll::Pending => scratch::BLOCK,
    };
    loop {
        ready!(from.poll_read_ready(cx)).map_err(|error| Failure::Source(error.into()))?;
        let Some(pipe) = Pipe::take() else {
            lane.mode = Mode::Copy(0);
            return Poll::Ready(Ok(None));
        };
        match fill(lane, from, pipe, limit.min(room))? {
            Filled::Pipe(pipe) => {
                lane.pipe = Some(pipe);
                return Poll::Ready(Ok(Some(true)));
            }
            Filled::End => return Poll::Ready(Ok(Some(false))),
            Filled::Nothing if lane.mode == Mode::CopyOnly => return Poll::Ready(Ok(None)),
            Filled::Nothing => {}
        }
    }
}

/// Moves from the pipe to the socket as far as it goes.
fn drain(lane: &mut Lane, pipe: &mut Pipe, to: &TcpStream) -> Result<(), Failure> {
    while pipe.len > 0 {
        match pipe.write_to(to) {
            Ok(0) => {
                return Err(Failure::Sink(io::Error::from(io::ErrorKind::BrokenPipe).into()));
            }
            Ok(written) => lane.moved(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Sink(error.into())),
        }
    }
    Ok(())
}

/// Ready once the lane's pipe is empty, or its bytes are held in memory.
pub(super) fn poll_drain(
    lane: &mut Lane,
    cx: &mut Context<'_>,
    sink: &mut dyn ByteSink,
    held: &mut Bytes,
) -> Poll<Result<(), Failure>> {
    let Some(mut pipe) = lane.pipe.take() else {
        return Poll::Ready(Ok(()));
    };
    while pipe.len > 0 {
        let moved = match sink.as_tcp() {
            Some(to) => match to.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => drain(lane, &mut pipe, to),
                Poll::Ready(Err(error)) => Err(Failure::Sink(error.into())),
                Poll::Pending => {
                    lane.pipe = Some(pipe);
                    return Poll::Pending;
                }
            },
            None => match sink.poll_splice(cx).map_err(Failure::Sink)? {
                Poll::Ready(Some(room)) if pipe.len <= room => {
                    lane.moved(pipe.len);
                    return Poll::Ready(sink.send_spliced(Spliced(pipe)).map_err(Failure::Sink));
                }
                Poll::Ready(Some(room)) => match pipe.split_to(room) {
                    Some(front) => {
                        lane.moved(front.len);
                        sink.send_spliced(Spliced(front)).map_err(Failure::Sink)
                    }
                    None => hold(&mut pipe, held),
                },
                Poll::Ready(None) => hold(&mut pipe, held),
                Poll::Pending => {
                    lane.pipe = Some(pipe);
                    return Poll::Pending;
                }
            },
        };
        moved?;
    }
    pipe.give_back();
    Poll::Ready(Ok(()))
}

/// The pipe's bytes, in memory.
fn hold(pipe: &mut Pipe, held: &mut Bytes) -> Result<(), Failure> {
    *held = pipe.empty_into_memory().map_err(|error| Failure::Sink(error.into()))?;
    Ok(())
}
