#![allow(clippy::unwrap_used)]
use adit_stats::Store;
use adit_testkit::TempDir;

use super::*;

fn sinks(flush_interval: Duration, flush_min_size: usize) -> (Sinks, Scope) {
    let store = Store::new(1);
    let root = store.root();
    let options = SinkOptions { flush_interval, flush_min_size };
    (Sinks::new(options, &root, RuntimeValues::default()), root)
}

fn eventually(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const NEVER: Duration = Duration::from_secs(3_600);

#[test]
fn lines_are_written_at_the_size_at_the_timer_and_at_a_flush() {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let read = || std::fs::read_to_string(&path).unwrap();
    let (sinks, root) = sinks(NEVER, 10);
    let counter = |name: &str| root.scope("filesystem").counter(name).value();
    let sink = sinks.open(path.to_str().unwrap()).unwrap();
    sink.write(b"12345\n");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(read(), "");
    sink.write(b"67890\n");
    eventually(|| read() == "12345\n67890\n");
    sink.write(b"a\n");
    sinks.flush();
    assert_eq!(read(), "12345\n67890\na\n");
    eventually(|| (counter("write_buffered"), counter("write_completed"), counter("write_failed")) == (3, 2, 0));
    eventually(|| root.scope("filesystem").gauge("write_total_buffered").value() == 0);

    let (timed, root) = super::tests::sinks(Duration::from_millis(20), 1 << 20);
    timed.open(path.to_str().unwrap()).unwrap().write(b"b\n");
    eventually(|| read().ends_with("b\n"));
    eventually(|| root.scope("filesystem").counter("flushed_by_timer").value() == 1);
}

#[test]
fn a_path_is_opened_once_and_again_after_rotation() {
    let dir = TempDir::new();
    let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
    let (sinks, _) = sinks(NEVER, 1 << 20);
    let first = sinks.open(path.to_str().unwrap()).unwrap();
    let second = sinks.open(path.to_str().unwrap()).unwrap();
    first.write(b"one\n");
    second.write(b"two\n");
    std::fs::rename(&path, &old).unwrap();
    sinks.reopen();
    eventually(|| path.exists());
    first.write(b"three\n");
    sinks.flush();
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
}

#[test]
fn dropping_the_last_handle_writes_what_waits() {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let (sinks, _) = sinks(NEVER, 1 << 20);
    sinks.open(path.to_str().unwrap()).unwrap().write(b"last\n");
    drop(sinks);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "last\n");
}

#[test]
fn a_file_that_takes_nothing_costs_a_bounded_amount_and_no_time() {
    let dir = TempDir::new();
    let path = dir.path().join("pipe");
    // A pipe that nobody empties: the writer stands still once it is full.
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (sinks, root) = sinks(NEVER, 1);
    let sink = sinks.open(path.to_str().unwrap()).unwrap();
    let line = vec![b'x'; 64 << 10];
    let start = Instant::now();
    for _ in 0..400 {
        sink.write(&line);
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(root.scope("filesystem").counter("write_failed").value() >= 200);
    assert!(root.scope("filesystem").gauge("write_total_buffered").value() <= 2 * MAX_BUFFERED as u64);
    // Let the writer go, so that dropping the sinks need not wait.
    let mut reader = reader;
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let (sinks, _) = sinks(NEVER, 1);
    assert!(sinks.open("/no/such/directory/log").is_err());
}
