//! HTTP/1.1 codec, both sides
