//! The exchange that turns a request into a tunnel, as a pure state machine: an upgrade, a CONNECT, a tunnel over POST.
//!
//! Deliberately unknown here: sockets, clocks, tasks, header maps beyond the status of an answer, and the payload itself,
//! which never passes through this crate. Whoever drives an [`Exchange`] performs its [`Action`]s, tells it what happened as
//! [`Input`]s, and wakes it at [`Exchange::deadline`].
//!
//! Read first: [`Exchange`] with the diagram above [`State`]; [`Permit`] and [`Withheld`], which make it impossible to
//! write payload before the upstream accepted; [`judge`], which decides what an answer means.
//!
//! Floor F0: pure.

mod answer;
mod exchange;
mod permit;

pub use answer::{Answer, Ask, Verdict, judge};
pub use exchange::{Action, Actions, Cause, Direction, Exchange, Half, Input, Plan, State};
pub use permit::{Permit, Withheld};
