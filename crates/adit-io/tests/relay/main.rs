//! The relay on real sockets: the table of FIN, RST and idle, in each lane.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bulk;
mod ends;
mod resets;
mod rig;
mod timeouts;
