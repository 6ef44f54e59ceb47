//! QUIC and HTTP/3 from the outside, by python's `aioquic`: ends and resets, what a hostile client may try, who is let in,
//! and how versions are found.
#![cfg(feature = "e2e")]

mod capsules;
mod ends;
mod hostile;
mod identity;
mod versions;
