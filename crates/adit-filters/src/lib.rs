//! Envoy's filters, except those that are a crate of their own: HTTP filters, network filters, and small terminal ones.
//!
//! Deliberately unknown here: how a chain is run, routes beyond what a filter is told of them, clusters.
//!
//! Read first: [`http_filter`] and [`network_filter`], which make a filter of its configuration; [`route_config`], which
//! makes what a route says about one; [`Env`], what they need for it.
//!
//! Every HTTP filter takes a request that has no path (a CONNECT).
//!
//! Floor F3.

mod bucket;
mod filter_state;
mod http;
mod network;
#[cfg(test)]
mod testing;
mod unpack;

pub use adit_match::ConfigError;
pub use http::{http_filter, route_config};
pub use network::{NetworkEntry, network_filter};

use adit_stats::Scope;

/// Where the stats of a filter go.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// The scope without a prefix.
    pub root: &'a Scope,
    /// `http.<stat_prefix>.` of the connection manager; the root for network filters.
    pub http: &'a Scope,
}
