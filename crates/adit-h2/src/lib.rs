//! HTTP/2 codec, both sides, on the h2 crate
