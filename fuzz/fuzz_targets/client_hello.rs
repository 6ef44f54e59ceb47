#![no_main]
//! The TLS inspector on anything: no panic, and a beginning never decides otherwise than the whole.

use adit_tls::{Inspect, inspect_client_hello};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = inspect_client_hello(data);
    for end in 0..data.len() {
        let part = inspect_client_hello(&data[..end]);
        assert!(part == Inspect::NeedMore || part == whole, "{end}: {part:?}, then {whole:?}");
    }
});
