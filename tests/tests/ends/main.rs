//! The table of ends over {TCP, TLS, CONNECT over HTTP/1.1, CONNECT over HTTP/2} on either side of one proxy: sixteen pairs, and
//! for each every way in which either peer can end its tunnel. `tests/fidelity.rs` has the pairs that need two proxies.
#![cfg(feature = "e2e")]

mod cells;
mod legs;
mod pairs;
