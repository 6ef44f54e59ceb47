//! HTTP/3 codec, both sides, on quinn
