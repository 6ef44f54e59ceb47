//! Files that lines go to. Workers append to a bounded buffer; one thread for each file writes it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adit_filter::RuntimeValues;
use adit_stats::{Counter, Gauge, Scope};

/// The most that waits for one file, in bytes; lines beyond are dropped and counted as `filesystem.write_failed`. As much
/// again may be on its way to the disk.
const MAX_BUFFERED: usize = 4 << 20;

/// The longest that [`Sinks::flush`] waits for a file.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// When a file is written.
#[derive(Debug, Clone, Copy)]
pub struct SinkOptions {
    /// `--file-flush-interval-msec`.
    pub flush_interval: Duration,
    /// `--file-flush-min-size-kb`, here in bytes.
    pub flush_min_size: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self { flush_interval: Duration::from_secs(10), flush_min_size: 64 << 10 }
    }
}

/// Every file of the process that lines go to. A clone is another handle. Dropping the last one writes what waits.
#[derive(Clone)]
pub struct Sinks(Arc<Inner>);

struct Inner {
    options: SinkOptions,
    runtime: RuntimeValues,
    stats: FileStats,
    files: Mutex<BTreeMap<String, Arc<FileSink>>>,
}

/// `filesystem.*`.
#[derive(Clone)]
struct FileStats {
    write_buffered: Counter,
    write_completed: Counter,
    write_failed: Counter,
    flushed_by_timer: Counter,
    reopen_failed: Counter,
    total_buffered: Gauge,
}

impl Sinks {
    /// No files yet. `root` is the scope without a prefix; `runtime` is for filters that ask it.
    pub fn new(options: SinkOptions, root: &Scope, runtime: RuntimeValues) -> Self {
        let scope = root.scope("filesystem");
        let stats = FileStats {
            write_buffered: scope.counter("write_buffered"),
            write_completed: scope.counter("write_completed"),
            write_failed: scope.counter("write_failed"),
            flushed_by_timer: scope.counter("flushed_by_timer"),
            reopen_failed: scope.counter("reopen_failed"),
            total_buffered: scope.gauge("write_total_buffered"),
        };
        Self(Arc::new(Inner { options, runtime, stats, files: Mutex::default() }))
    }

    /// The runtime that filters ask.
    pub fn runtime(&self) -> &RuntimeValues {
        &self.0.runtime
    }

    /// The sink of a path, opened for appending unless it is open already. `/dev/stdout` and `/dev/stderr` are the
    /// process's own streams.
    ///
    /// # Errors
    /// If it cannot be opened, or no thread can be started for it.
    pub fn open(&self, path: &str) -> io::Result<Arc<FileSink>> {
        let mut files = lock(&self.0.files);
        if let Some(sink) = files.get(path) {
            return Ok(sink.clone());
        }
        let sink = FileSink::start(path, self.0.options, self.0.stats.clone())?;
        files.insert(path.to_owned(), sink.clone());
        Ok(sink)
    }

    /// Opens every file anew at its next write, for log rotation (SIGUSR1). Returns at once.
    pub fn reopen(&self) {
        self.each(|sink| sink.signal(|state| state.reopen = true));
    }

    /// Writes what waits, and waits for that at most two seconds in all.
    pub fn flush(&self) {
        self.each(|sink| sink.signal(|state| state.flush = true));
        let deadline = Instant::now() + FLUSH_PATIENCE;
        self.each(|sink| sink.wait_written(deadline));
    }

    fn each(&self, act: impl Fn(&FileSink)) {
        let sinks: Vec<_> = lock(&self.0.files).values().cloned().collect();
        sinks.iter().for_each(|sink| act(sink));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let sinks = std::mem::take(&mut *lock(&self.files));
        for sink in sinks.values() {
            sink.signal(|state| state.flush = true);
        }
        let deadline = Instant::now() + FLUSH_PATIENCE;
        sinks.values().for_each(|sink| sink.wait_written(deadline));
    }
}

/// One file.
pub struct FileSink {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Work for the writer.
    work: Condvar,
    /// The writer has written everything.
    written: Condvar,
    options: SinkOptions,
    stats: FileStats,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// The writer is at it.
    writing: bool,
    flush: bool,
    reopen: bool,
    closing: bool,
}

impl FileSink {
    fn start(path: &str, options: SinkOptions, stats: FileStats) -> io::Result<Arc<Self>> {
        let target = Target::open(path)?;
        let shared =
            Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), written: Condvar::new(), options, stats });
        let writer = Writer { path: path.to_owned(), target, shared: shared.clone(), spare: Vec::new() };
        std::thread::Builder::new().name("access_log".into()).spawn(move || writer.run())?;
        Ok(Arc::new(Self { shared }))
    }

    /// Appends a line as it is. Never waits for the disk; when too much waits already, the line is dropped and counted.
    pub fn write(&self, line: &[u8]) {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if state.buffer.len().saturating_add(line.len()) > MAX_BUFFERED {
            drop(state);
            shared.stats.write_failed.inc();
            return;
        }
        let before = state.buffer.len();
        state.buffer.extend_from_slice(line);
        let due = before < shared.options.flush_min_size && state.buffer.len() >= shared.options.flush_min_size;
        drop(state);
        shared.stats.write_buffered.inc();
        shared.stats.total_buffered.add(line.len() as u64);
        if due {
            shared.work.notify_one();
        }
    }

    fn signal(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.shared.state));
        self.shared.work.notify_one();
    }

    fn wait_written(&self, deadline: Instant) {
        let mut state = lock(&self.shared.state);
        while state.writing || state.flush || !state.buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.signal(|state| state.closing = true);
    }
}

/// The thread of one file.
struct Writer {
    path: String,
    target: Target,
    shared: Arc<Shared>,
    /// The buffer that is not in use, so that neither is allocated anew.
    spare: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        let mut due = Instant::now() + self.shared.options.flush_interval;
        loop {
            let (reopen, closing) = self.wait(&mut due);
            if reopen {
                self.reopen();
            }
            let size = self.spare.len() as u64;
            if size > 0 {
                match self.target.write(&self.spare) {
                    Ok(()) => self.shared.stats.write_completed.inc(),
                    Err(_) => self.shared.stats.write_failed.inc(),
                }
                self.shared.stats.total_buffered.sub(size);
                self.spare.clear();
            }
            lock(&self.shared.state).writing = false;
            self.shared.written.notify_all();
            if closing {
                return;
            }
        }
    }

    /// Waits for enough bytes, a command or the timer; then takes what waits into `spare`.
    fn wait(&mut self, due: &mut Instant) -> (bool, bool) {
        let shared = self.shared.clone();
        let options = &shared.options;
        let mut state = lock(&shared.state);
        loop {
            let now = Instant::now();
            let timer = now >= *due;
            if timer {
                *due = now + options.flush_interval;
                if !state.buffer.is_empty() {
                    shared.stats.flushed_by_timer.inc();
                }
            }
            let full = state.buffer.len() >= options.flush_min_size.max(1);
            if full || state.flush || state.reopen || state.closing || (timer && !state.buffer.is_empty()) {
                std::mem::swap(&mut state.buffer, &mut self.spare);
                state.writing = true;
                state.flush = false;
                let closing = state.closing;
                return (std::mem::take(&mut state.reopen), closing);
            }
            let left = due.saturating_duration_since(now);
            state = shared.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What waited still goes to the old file: it was logged before the rotation.
    fn reopen(&mut self) {
        if let Err(()) = self.target.write(&self.spare).map_err(drop) {
            self.shared.stats.write_failed.inc();
        }
        self.shared.stats.total_buffered.sub(self.spare.len() as u64);
        self.spare.clear();
        match Target::open(&self.path) {
            Ok(target) => self.target = target,
            Err(_) => self.shared.stats.reopen_failed.inc(),
        }
    }
}

enum Target {
    File(File),
    Stdout,
    Stderr,
}

impl Target {
    fn open(path: &str) -> io::Result<Self> {
        // The device files cannot be opened where the stream is a socket.
        match path {
            "/dev/stdout" => Ok(Self::Stdout),
            "/dev/stderr" => Ok(Self::Stderr),
            path => OpenOptions::new().create(true).append(true).open(path).map(Self::File),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done when a holder panics: each change is one assignment or append.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
