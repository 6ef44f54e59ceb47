//! Any text as the target of a CONNECT: no panic, and what is accepted says one thing.
#![no_main]

use adit_http::ConnectTarget;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(target) = ConnectTarget::parse(text) {
        assert_eq!(ConnectTarget::parse(&target.to_string()).as_ref(), Ok(&target));
        assert!(target.port > 0 && target.authority().is_some());
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@%\\".contains(&byte)));
        let numeric = target.host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b':');
        assert!(!numeric || target.socket_addr().is_some());
    }
    let _ = ConnectTarget::parse_with_default(text, Some(443));
});
