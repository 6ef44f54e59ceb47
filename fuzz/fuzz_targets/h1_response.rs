//! Any bytes, cut anywhere, make the same answer or the same error; nothing panics.
#![no_main]

use adit_h1::ClientConfig;
use adit_h1::probe;
use adit_http::{RequestKind, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (size, asked, bytes) = input;
    let cfg = ClientConfig { enable_trailers: true, ..ClientConfig::default() };
    let bytes = &bytes[..bytes.len().min(cfg.max_head_bytes)];
    let kind = match asked & 3 {
        0 => Token::new("websocket").map_or(RequestKind::Plain, RequestKind::Upgrade),
        1 => "h:1".parse().map_or(RequestKind::Plain, RequestKind::Connect),
        _ => RequestKind::Plain,
    };
    let head = asked & 4 == 4;
    let whole = format!("{:?}", probe::response(&[bytes], &cfg, kind.clone(), head));
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(size) + 1).collect();
    assert_eq!(format!("{:?}", probe::response(&pieces, &cfg, kind, head)), whole);
});
