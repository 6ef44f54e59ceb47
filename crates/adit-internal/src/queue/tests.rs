//! Every order of operations up to a depth, against a model: bytes, ends, marks, and no wake-up lost or too many.
//!
//! Each operation is atomic under the queue's lock, so every run of two threads equals one of these orders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Push(usize),
    Write(usize),
    End,
    Reset,
    Watch,
    Pop,
    Read(usize),
    Stop,
}

const OPS: [Op; 9] =
    [Op::Push(700), Op::Push(1500), Op::Write(1), Op::End, Op::Reset, Op::Watch, Op::Pop, Op::Read(400), Op::Stop];

const DEPTH: u32 = 6;

/// The queue and what is known of it from outside.
struct World {
    queue: Queue,
    reader: Arc<Count>,
    writer: Arc<Count>,
    /// Positions: written, read.
    written: u64,
    read: u64,
    end: End,
    stopped: bool,
    /// Parked since this many wake-ups.
    reader_parked: Option<usize>,
    writer_parked: Option<(usize, Parked)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Parked {
    ForRoom,
    ForStop,
}

fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

impl World {
    fn new() -> Self {
        Self {
            queue: Queue::new(Limits::from_kb(1).unwrap()),
            reader: Arc::default(),
            writer: Arc::default(),
            written: 0,
            read: 0,
            end: End::Open,
            stopped: false,
            reader_parked: None,
            writer_parked: None,
        }
    }

    fn step(&mut self, op: Op) {
        let (reader, writer) = (self.reader.clone().into(), self.writer.clone().into());
        let (mut reader, mut writer) = (Context::from_waker(&reader), Context::from_waker(&writer));
        match op {
            Op::Push(len) => self.push(&mut writer, len),
            Op::Write(len) => self.write(&mut writer, len),
            Op::End => {
                let result = self.queue.end();
                assert_eq!(result.is_ok(), self.end == End::Ended || (self.end == End::Open && !self.stopped));
                if result.is_ok() {
                    self.end = End::Ended;
                }
            }
            Op::Reset => {
                self.queue.reset(ErrorCode::Refused);
                if self.end == End::Open {
                    self.end = End::Reset(ErrorCode::Refused);
                    self.writer_parked = None;
                }
            }
            Op::Watch => {
                let ready = self.queue.poll_stopped(&mut writer).is_ready();
                assert_eq!(ready, self.stopped);
                if !ready {
                    let room = matches!(self.writer_parked, Some((at, Parked::ForRoom)) if at == woken(&self.writer));
                    let why = if room { Parked::ForRoom } else { Parked::ForStop };
                    self.writer_parked = Some((woken(&self.writer), why));
                }
            }
            Op::Pop if !self.stopped => {
                let next = self.queue.poll_pop(&mut reader);
                let bytes = matches!(&next, Poll::Ready(Some(Ok(_))));
                if let Poll::Ready(Some(Ok(chunk))) = &next {
                    self.check(chunk);
                }
                self.settle_read(bytes, next.map(|next| next.is_none()));
            }
            Op::Read(len) if !self.stopped => {
                let mut buffer = vec![0; len];
                let mut buffer = tokio::io::ReadBuf::new(&mut buffer);
                let next = self.queue.poll_read(&mut reader, &mut buffer);
                self.check(buffer.filled());
                let bytes = !buffer.filled().is_empty();
                self.settle_read(bytes, next.map(|next| next.is_ok()));
            }
            Op::Pop | Op::Read(_) => {}
            Op::Stop => {
                self.queue.stop(ErrorCode::Cancel);
                self.stopped = true;
                self.reader_parked = None;
                self.read = self.written;
            }
        }
        self.check_wakes();
    }

    fn push(&mut self, cx: &mut Context<'_>, len: usize) {
        let mut data: Bytes = (0..len as u64).map(|i| byte(self.written + i)).collect();
        let result = self.queue.poll_push(cx, &mut data);
        self.written += (len - data.len()) as u64;
        self.settle_write(result.map(|result| result.is_ok()), data.len());
    }

    fn write(&mut self, cx: &mut Context<'_>, len: usize) {
        let data: Vec<u8> = (0..len as u64).map(|i| byte(self.written + i)).collect();
        let result = self.queue.poll_write(cx, &data);
        if let Poll::Ready(Ok(written)) = result {
            assert!(written > 0);
            self.written += written as u64;
        }
        self.settle_write(result.map(|result| result.is_ok()), 0);
    }

    fn settle_write(&mut self, result: Poll<bool>, left: usize) {
        match result {
            Poll::Ready(true) => {
                assert_eq!(left, 0);
                assert!(self.end == End::Open && !self.stopped);
                self.writer_parked = None;
            }
            Poll::Ready(false) => assert!(self.end != End::Open || self.stopped),
            Poll::Pending => {
                assert!(self.queue.charged() > 512, "blocked with room");
                self.writer_parked = Some((woken(&self.writer), Parked::ForRoom));
            }
        }
    }

    fn settle_read(&mut self, bytes: bool, over: Poll<bool>) {
        match over {
            _ if bytes => self.reader_parked = None,
            Poll::Ready(clean) => {
                assert_eq!(self.read, self.written, "over before the last byte");
                assert_eq!(clean, self.end == End::Ended);
                assert_ne!(self.end, End::Open);
            }
            Poll::Pending => {
                assert_eq!((self.read, self.end), (self.written, End::Open), "pending with something to say");
                self.reader_parked = Some(woken(&self.reader));
            }
        }
    }

    fn check(&mut self, bytes: &[u8]) {
        for got in bytes {
            assert_eq!(*got, byte(self.read));
            self.read += 1;
        }
    }

    fn check_wakes(&mut self) {
        let charged = self.queue.charged();
        assert!(charged <= 1024 + LEAST_CHARGE, "above the high mark: {charged}");
        if let Some(at) = self.reader_parked {
            let due = self.read < self.written || self.end != End::Open;
            assert_eq!(woken(&self.reader) - at, usize::from(due), "reader");
            if due {
                self.reader_parked = None;
            }
        }
        if let Some((at, why)) = self.writer_parked {
            let due = self.stopped || (why == Parked::ForRoom && charged <= 512);
            assert_eq!(woken(&self.writer) - at, usize::from(due), "writer");
            if due {
                self.writer_parked = None;
            }
        }
    }
}

fn woken(count: &Count) -> usize {
    count.0.load(Ordering::Relaxed)
}

#[test]
fn every_order_of_operations() {
    for order in 0..OPS.len().pow(DEPTH) {
        let mut world = World::new();
        let mut left = order;
        let ops = (0..DEPTH).map(|_| {
            let op = OPS[left % OPS.len()];
            left /= OPS.len();
            op
        });
        let ops: Vec<_> = ops.collect();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ops.iter().for_each(|op| world.step(*op))));
        assert!(run.is_ok(), "{ops:?}");
        let World { queue, reader, writer, .. } = world;
        drop(queue);
        assert_eq!((Arc::strong_count(&reader), Arc::strong_count(&writer)), (1, 1), "{ops:?}");
    }
}

#[test]
fn tiny_chunks_count_for_more() {
    let queue = Queue::new(Limits::from_kb(1).unwrap());
    let mut cx = Context::from_waker(Waker::noop());
    let mut written = 0;
    while queue.poll_write(&mut cx, b"x").is_ready() {
        written += 1;
    }
    assert_eq!(written, 1024 / LEAST_CHARGE);
}

#[test]
fn an_idle_direction_is_small() {
    assert!(size_of::<Queue>() <= 152, "{}", size_of::<Queue>());
}
