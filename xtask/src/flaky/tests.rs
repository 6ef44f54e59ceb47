#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{Failed, failed, ran};

/// What `cargo test --workspace --no-fail-fast --quiet` of cargo 1.95 prints.
const QUIET: &str = "
running 4 tests
....
test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s


running 4 tests
tests::result --- FAILED
. 2/4
tests::bad --- FAILED
.
failures:

---- tests::result stdout ----
Error: \"x\"

---- tests::bad stdout ----
failures:
    fake

thread 'tests::bad' (6779) panicked at one/src/lib.rs:6:86:
no
stack backtrace:
   0: __rustc::rust_begin_unwind
             at /rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/panicking.rs:689:5
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.


failures:
    tests::bad
    tests::result

test result: FAILED. 2 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.11s

error: test failed, to rerun pass `-p one --lib`

running 2 tests
error: test failed, to rerun pass `-p two --test abort`

Caused by:
  process didn't exit successfully: `/t/debug/deps/abort-dc3779b2e3de6a2f --quiet` (signal: 6, SIGABRT: process abort signal)

running 1 test
one/src/lib.rs - f (line 1) --- FAILED

failures:

---- one/src/lib.rs - f (line 1) stdout ----
Test executable failed (exit status: 101).


failures:
    one/src/lib.rs - f (line 1)

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.09s

all doctests ran in 0.48s; merged doctests compilation took 0.37s
error: doctest failed, to rerun pass `-p one --doc`
error: 3 targets failed:
    `-p one --lib`
    `-p two --test abort`
    `-p one --doc`
";

/// The same without `--quiet`, in part.
const LOUD: &str = "\
     Running tests/listener.rs (target/debug/deps/listener-4ce5b2e9e8f5c3c1)

running 2 tests
test limits ... ok
test times_out ... FAILED

failures:

---- times_out stdout ----

thread 'times_out' (6887) panicked at one/src/lib.rs:6:86:
assertion `left == right` failed
  left: 0
 right: 1


failures:
    times_out

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.16s

error: test failed, to rerun pass `-p adit-listener --test listener`
";

fn target(target: &str, tests: &[&str]) -> Failed {
    Failed { target: target.to_owned(), tests: tests.iter().map(|&test| test.to_owned()).collect() }
}

#[test]
fn what_failed_is_read_from_the_output() {
    let expected = [
        target("-p one --lib", &["tests::bad", "tests::result"]),
        target("-p two --test abort", &[]),
        target("-p one --doc", &["one/src/lib.rs - f (line 1)"]),
    ];
    assert_eq!(failed(QUIET), expected);
    assert_eq!(failed(LOUD), [target("-p adit-listener --test listener", &["times_out"])]);
    assert_eq!(ran(QUIET), 4);
}

#[test]
fn what_does_not_compile_is_no_failed_test() {
    let output = "\
 --> one/tests/c.rs:1:9
1 | fn x( {
error: could not compile `one` (test \"c\") due to 1 previous error
";
    assert!(failed(output).is_empty());
    assert_eq!(ran(output), 0);
}

#[test]
fn only_what_failed_runs_again_in_the_same_workspace() {
    let args = ["--workspace", "--quiet"];
    let again = |target: &Failed| target.command(&args).join(" ");
    assert_eq!(again(&target("-p one --lib", &["a::b", "c"])), "test --workspace --quiet --lib -- --exact a::b c");
    assert_eq!(again(&target("-p two --test abort", &[])), "test --workspace --quiet --test abort");
    assert_eq!(again(&target("--bin x", &["a"])), "test --workspace --quiet --bin x -- --exact a");
    assert_eq!(again(&target("-p one --doc", &["one/src/lib.rs - f (line 1)"])), "test --workspace --quiet --doc");
    assert_eq!(target("-p one --lib", &["a", "b"]).names(), ["-p one --lib a", "-p one --lib b"]);
    assert_eq!(target("-p one --lib", &[]).names(), ["-p one --lib"]);
}
