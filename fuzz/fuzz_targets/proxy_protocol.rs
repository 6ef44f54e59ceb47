//! Arbitrary bytes as a PROXY protocol header: no panic, and no prefix decides otherwise than the whole.
#![no_main]

use adit_listener::filters::{Progress, inspect_http, parse_proxy_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = parse_proxy_header(data);
    let half = &data[..data.len() / 2];
    match parse_proxy_header(half) {
        Ok(Progress::Incomplete { need, .. }) => assert!(need > half.len()),
        decided => assert_eq!(decided, whole),
    }
    if let Ok(Progress::Complete { len, .. }) = whole {
        assert!(len <= data.len());
    }
    let _ = inspect_http(data);
});
