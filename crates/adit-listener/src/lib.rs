//! Listeners: sockets on every worker, listener filters, the choice of a filter chain, and the life of a connection
//! around its chain.
//!
//! Deliberately unknown here: what a network filter does, TLS, HTTP, clusters. Whoever builds a listener lends it the
//! makers of those ([`Factories`]); an accepted connection is handed to its chain's
//! [`NetworkTerminal`](adit_filter::NetworkTerminal) and seen again when it is over, for the log and the counters.
//!
//! Read first: [`ListenerPlan`] with [`Factories`], [`Listener`], [`FilterChainMatcher`].
//!
//! ```text
//! ListenerPlan::from_proto -> Listener::bind (all sockets, before anything runs) -> Listener::start (on each worker)
//! accept -> limits -> listener filters (bounded in time) -> filter chain match -> transport socket -> network filters
//!        -> terminal serves -> listener access log, counters
//! ```
//!
//! Floor F3.

mod accept;
mod address;
mod chain;
mod connection;
pub mod filters;
mod keepalive;
mod limits;
mod listener;
mod matcher;
mod plan;
mod socket;
mod stats;
mod transport;
mod udp;

pub use address::BindAddress;
pub use chain::{FilterChainPlan, NetworkChain};
pub use limits::GlobalLimit;
pub use listener::{Listener, WorkerListener};
pub use matcher::{ChainMatch, FilterChainMatcher, MatchInput, SourceType};
pub use plan::{Factories, ListenerPlan};
pub use socket::BindError;
pub use stats::ListenerStats;
pub use transport::{TransportAcceptor, TransportError};
