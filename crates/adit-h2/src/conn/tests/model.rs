//! Two ends with tasks that are polled only when they were woken, over wires that block at random: nobody may wait for what
//! is there, and nothing may be left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use crate::conn::send::Received;

const SEEDS: u64 = 200;
/// Steps with resets, pauses and windows that shrink; what is under way then runs to its end.
const ROUGH_STEPS: u32 = 3_000;
const MAX_STEPS: u32 = 1_000_000;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Who is polled once it was woken.
struct Woken {
    flag: Arc<Flag>,
    waker: Waker,
}

impl Woken {
    fn new() -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { waker: flag.clone().into(), flag }
    }

    fn is(&self) -> bool {
        self.flag.0.load(Relaxed)
    }

    fn take(&self) -> bool {
        self.flag.0.swap(false, Relaxed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Job {
    /// `headed`: the answer's head was sent, or there is none to send.
    Send { left: usize, headed: bool },
    /// `headed`: the answer's head came, or there is none to come.
    Recv { headed: bool },
}

/// Who holds one half of a stream.
struct Task {
    side: usize,
    key: u32,
    job: Job,
    woken: Woken,
    done: bool,
    paused: bool,
    data: Bytes,
    /// Where it is in what each stream sends, which begins at its number: octets that count up.
    at: usize,
}

impl Task {
    fn new(side: usize, end: &mut End, key: u32, job: Job) -> Self {
        let at = end.core.streams.get(key).unwrap().id as usize;
        Self { side, key, job, woken: Woken::new(), done: false, paused: false, data: Bytes::new(), at }
    }

    /// Polls its half for a while. Whether anything came of it.
    fn poll(&mut self, core: &mut Core, rng: &mut Rng) -> bool {
        let mut progress = false;
        for _ in 0..20 {
            let polled = match self.job {
                Job::Send { .. } => self.send(core, rng),
                Job::Recv { .. } => self.recv(core),
            };
            progress |= polled != Poll::Pending;
            if self.done || polled.is_pending() {
                return progress;
            }
        }
        self.woken.flag.0.store(true, Relaxed);
        progress
    }

    /// `Ready` if anything came of it.
    fn send(&mut self, core: &mut Core, rng: &mut Rng) -> Poll<()> {
        let Job::Send { left, headed } = &mut self.job else { return Poll::Pending };
        if core.is_server && !std::mem::replace(headed, true) {
            self.done = core.respond(self.key, http::StatusCode::OK, &http::HeaderMap::new(), false).is_err();
        } else {
            if self.data.is_empty() && *left > 0 {
                let n = (*left).min([1, 10, 1000, 1025, 5000, 70_000][rng.usize(..6)]);
                *left -= n;
                self.data = (self.at..self.at + n).map(|at| at as u8).collect();
                self.at += n;
            }
            let (last, before) = (*left == 0, self.data.len());
            match core.poll_send(self.key, &Context::from_waker(&self.woken.waker), &mut self.data, last) {
                Poll::Pending if self.data.len() == before => return Poll::Pending,
                // A part was taken: it is asked for no more until it is woken, but that was progress.
                Poll::Pending => {}
                Poll::Ready(sent) => self.done = last || sent.is_err(),
            }
        }
        if self.done {
            core.drop_send(self.key, ErrorCode::Internal);
        }
        Poll::Ready(())
    }

    /// `Ready` if anything came of it.
    fn recv(&mut self, core: &mut Core) -> Poll<()> {
        let cx = Context::from_waker(&self.woken.waker);
        let Job::Recv { headed } = &mut self.job else { return Poll::Pending };
        let goes_on = if !core.is_server && !*headed {
            *headed = true;
            match core.poll_head(self.key, &cx) {
                Poll::Pending => {
                    *headed = false;
                    return Poll::Pending;
                }
                Poll::Ready(head) => head.is_ok(),
            }
        } else {
            match core.poll_chunk(self.key, &cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Received::Chunk(chunk))) => {
                    assert!(
                        chunk.iter().zip(self.at..).all(|(octet, at)| *octet == at as u8),
                        "octets of another place"
                    );
                    self.at += chunk.len();
                    true
                }
                Poll::Ready(_) => false,
            }
        };
        if !goes_on {
            self.done = true;
            core.drop_recv(self.key);
        }
        Poll::Ready(())
    }

    /// Lets go of its half in one of the ways there are.
    fn abandon(&self, core: &mut Core, gently: bool) {
        match self.job {
            Job::Send { .. } => {
                if !gently {
                    core.send_reset(self.key, ErrorCode::Internal);
                }
                core.drop_send(self.key, ErrorCode::Cancel);
            }
            Job::Recv { headed: false } => core.drop_pending(self.key),
            Job::Recv { headed: true } => {
                if !gently {
                    core.stop(self.key, ErrorCode::NoError);
                }
                core.drop_recv(self.key);
            }
        }
    }
}

/// One end, its driver, and what is on its way to it.
struct Side {
    end: End,
    driver: Woken,
    wire: VecDeque<Vec<u8>>,
    /// Its transport takes nothing.
    blocked: bool,
    /// The peer's SETTINGS were acknowledged: the later ones are the model's, of which the other end does not know.
    acknowledged: bool,
    /// Its peer shrank the windows, and will open them again.
    shrunk: bool,
}

impl Side {
    fn feed(&mut self, octets: &[u8]) {
        self.end.core.set_driver(&Context::from_waker(&self.driver.waker));
        self.end.feed(octets).unwrap();
    }

    fn initial_window(&mut self, window: u32) {
        self.feed(&octets(frame::SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    }

    /// What its driver does when it was woken: frames for the other end.
    fn drive(&mut self) -> Vec<Vec<u8>> {
        self.end.core.set_driver(&Context::from_waker(&self.driver.waker));
        if self.blocked {
            return Vec::new();
        }
        let mut frames = Vec::new();
        for sent in self.end.sent() {
            let acknowledges = sent.kind == frame::SETTINGS && sent.flags & 1 == 1;
            if !(acknowledges && std::mem::replace(&mut self.acknowledged, true)) {
                frames.push(octets(sent.kind, sent.flags, sent.stream, &sent.payload));
            }
        }
        frames
    }
}

/// Octets of one direction of a stream.
fn amount(rng: &mut Rng) -> usize {
    if rng.u8(..4) == 0 { 0 } else { rng.usize(..200_000) }
}

struct Model {
    rng: Rng,
    options: Http2Options,
    shrinks: bool,
    gives_up: bool,
    sides: [Side; 2],
    tasks: Vec<Task>,
    to_open: usize,
    calm: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let options = Http2Options {
            initial_stream_window_size: Some([65_535, 70_000, 200_000][rng.usize(..3)]),
            initial_connection_window_size: [65_535, 100_000, 300_000][rng.usize(..3)],
            max_send_buffer_size: [100, 1000, 30_000, 256 << 10][rng.usize(..4)],
            max_outbound_frames: [1, 3, 10_000][rng.usize(..3)],
            max_inbound_window_update_frames_per_data_frame_sent: 100_000,
            ..Http2Options::default()
        };
        let sides = [false, true].map(|is_server| Side {
            end: End::new(&options, is_server),
            driver: Woken::new(),
            wire: VecDeque::new(),
            blocked: false,
            acknowledged: false,
            shrunk: false,
        });
        let (shrinks, gives_up, to_open) = (rng.bool(), rng.bool(), rng.usize(1..12));
        let mut model = Self { rng, options, shrinks, gives_up, sides, tasks: Vec::new(), to_open, calm: false };
        model.sides[1].feed(frame::PREFACE);
        model
    }

    fn step(&mut self) {
        for side in 0..2 {
            self.transport(side);
        }
        let Self { rng, sides: [client, server], tasks, to_open, .. } = self;
        if *to_open > 0 && client.end.core.peer.came && rng.u8(..5) == 0 {
            *to_open -= 1;
            let key = client.end.core.open(&request(), false).unwrap();
            tasks.push(Task::new(0, &mut client.end, key, Job::Send { left: amount(rng), headed: true }));
            tasks.push(Task::new(0, &mut client.end, key, Job::Recv { headed: false }));
        }
        while let Some(arrived) = server.end.core.accept() {
            let send = Job::Send { left: amount(rng), headed: false };
            tasks.push(Task::new(1, &mut server.end, arrived.key, send));
            if !arrived.ended {
                tasks.push(Task::new(1, &mut server.end, arrived.key, Job::Recv { headed: true }));
            }
        }
        for _ in 0..3 {
            self.run_one();
        }
    }

    /// Perhaps delivers a frame, perhaps changes the windows, and lets the driver do its part.
    fn transport(&mut self, at: usize) {
        let Self { rng, options, sides, calm, shrinks, .. } = self;
        let side = &mut sides[at];
        let mut driven = false;
        if side.blocked && (*calm || rng.u8(..10) == 0) {
            side.blocked = false;
            driven = true;
        }
        if rng.bool()
            && let Some(octets) = side.wire.pop_front()
        {
            side.feed(&octets);
            driven = true;
        }
        if *shrinks && !*calm && !side.shrunk && side.end.core.peer.came && rng.u8(..60) == 0 {
            side.initial_window(rng.u32(..200));
            side.shrunk = true;
            driven = true;
        } else if side.shrunk && (*calm || rng.u8(..40) == 0) {
            side.initial_window(options.initial_stream_window_size.unwrap());
            side.shrunk = false;
            driven = true;
        }
        if side.driver.take() | driven {
            if !side.blocked && !*calm && rng.u8(..6) == 0 {
                side.blocked = true;
                let _ = side.end.core.set_blocked();
            }
            let frames = side.drive();
            sides[1 - at].wire.extend(frames);
        }
    }

    /// Polls a task if it was woken, or has it give up.
    fn run_one(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.tasks.len());
        if self.gives_up && !self.calm && self.rng.u16(..400) == 0 {
            return self.abandon(at);
        }
        let task = &mut self.tasks[at];
        if !self.calm && self.rng.u8(..20) == 0 {
            task.paused = !task.paused;
        }
        if (!task.paused || self.calm) && task.woken.take() {
            task.poll(&mut self.sides[task.side].end.core, &mut self.rng);
            if task.done {
                self.tasks.swap_remove(at);
            }
        }
    }

    /// A receiving half takes the sending one along.
    fn abandon(&mut self, at: usize) {
        let gone = self.tasks.swap_remove(at);
        let core = &mut self.sides[gone.side].end.core;
        gone.abandon(core, self.rng.bool());
        let other =
            |task: &Task| (task.side, task.key) == (gone.side, gone.key) && matches!(task.job, Job::Send { .. });
        if matches!(gone.job, Job::Recv { .. })
            && let Some(at) = self.tasks.iter().position(other)
        {
            self.tasks.swap_remove(at).abandon(core, true);
        }
    }

    /// Nothing is on its way, and nobody was woken.
    fn is_quiet(&self) -> bool {
        let is_quiet = |side: &Side| side.wire.is_empty() && !side.blocked && !side.shrunk && !side.driver.is();
        self.calm
            && self.to_open == 0
            && self.sides.iter().all(is_quiet)
            && !self.tasks.iter().any(|task| task.woken.is())
    }

    fn check(mut self, seed: u64) {
        for side in &mut self.sides {
            assert_eq!(side.end.sent(), [], "seed {seed}: the driver was not woken");
        }
        for task in &mut self.tasks {
            let progress = task.poll(&mut self.sides[task.side].end.core, &mut self.rng);
            assert!(!progress, "seed {seed}: {:?} of side {} was not woken", task.job, task.side);
        }
        let jobs: Vec<_> = self.tasks.iter().map(|task| (task.side, task.job)).collect();
        assert_eq!(jobs, [], "seed {seed}: nobody moves");
        for Side { end: End { core, .. }, .. } in &self.sides {
            assert_eq!((core.live, core.streams.open, core.queued), (0, 0, 0), "seed {seed}");
            assert!(core.ready.is_empty() && core.line.is_empty() && core.socket_waiters.is_empty(), "seed {seed}");
            let window = core.recv_window + i64::from(core.unannounced);
            assert_eq!(window, i64::from(self.options.connection_window()), "seed {seed}");
        }
        let [a, b] = self.sides.map(|side| (side.end.core.send_window, side.end.core.recv_window));
        assert_eq!((a.0, a.1), (b.1, b.0), "seed {seed}: both count the same windows");
    }
}

#[test]
fn nobody_waits_for_what_is_there_and_nothing_is_left() {
    for seed in 0..SEEDS {
        let mut model = Model::new(seed);
        let mut steps = 0;
        while !model.is_quiet() {
            steps += 1;
            assert!(steps < MAX_STEPS, "seed {seed}: no end");
            model.calm = steps > ROUGH_STEPS;
            model.step();
        }
        model.check(seed);
    }
}
