//! Any bytes, cut anywhere, make the same request or the same refusal; nothing panics.
#![no_main]

use adit_h1::ServerConfig;
use adit_h1::probe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let cfg = ServerConfig { accept_http_10: size & 1 == 1, enable_trailers: true, ..ServerConfig::default() };
    // Limits see the input piece by piece: past them a different one may be hit first.
    let bytes = &bytes[..bytes.len().min(cfg.max_head_bytes)];
    let whole = format!("{:?}", probe::request(&[bytes], &cfg));
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(size / 2) + 1).collect();
    assert_eq!(format!("{:?}", probe::request(&pieces, &cfg)), whole);
});
