//! The admin interface: Envoy's endpoints with Envoy's forms, over HTTP/1.1 (hyper).
//!
//! Deliberately unknown here: listeners, clusters, workers. What is shown comes from a [`Views`], what is done goes to a
//! [`Control`]; adit-server implements both.
//!
//! Read first: [`Admin`], then `handlers.rs` (the table of endpoints).
//!
//! Floor F4.

mod handlers;
mod html;
mod query;
mod serve;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;

use adit_stats::Store;
use serde_json::Value;

pub use serve::{AdminLimits, serve};

/// What the admin interface works on.
#[derive(Clone)]
pub struct Admin {
    /// Every metric.
    pub stats: Store,
    /// What is shown.
    pub views: Arc<dyn Views>,
    /// What is done.
    pub control: Arc<dyn Control>,
    /// Called before metrics are rendered, to set gauges that describe the moment.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// `allow_paths`: whether a path, its query included, may be asked for.
    pub allow: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// `access_log`: told of each request once it is answered.
    pub log: Arc<dyn Fn(&Record<'_>) + Send + Sync>,
}

/// A request that was answered.
pub struct Record<'a> {
    /// The client.
    pub remote: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// The request, without its body.
    pub request: &'a http::request::Parts,
    /// The answer's status.
    pub status: http::StatusCode,
    /// The answer's fields.
    pub headers: &'a http::HeaderMap,
    /// Bytes of the answer's body.
    pub sent: usize,
}

/// What the admin interface shows.
pub trait Views: Send + Sync {
    /// `/server_info`.
    fn server_info(&self) -> Value;
    /// `/listeners`.
    fn listeners(&self) -> Vec<ListenerView>;
    /// `/clusters`: the text form, or the JSON form; `filter` chooses clusters by name.
    fn clusters(&self, json: bool, filter: &dyn Fn(&str) -> bool) -> Rendered;
    /// `/config_dump`: the sections in order.
    fn config_dump(&self) -> Vec<Value>;
    /// `/certs`.
    fn certs(&self) -> Value;
    /// `/memory`.
    fn memory(&self) -> Value;
    /// `/runtime`.
    fn runtime(&self) -> Value;
}

/// Text or JSON.
pub enum Rendered {
    /// Plain text.
    Text(String),
    /// A document.
    Json(Value),
}

/// One listener with one of its addresses.
pub struct ListenerView {
    /// The name.
    pub name: String,
    /// The address as text: `127.0.0.1:10000`, `envoy://name/`, a path.
    pub address: String,
    /// The address as Envoy's JSON form has it.
    pub json: Value,
}

/// What the admin interface does.
pub trait Control: Send + Sync {
    /// The state of the process.
    fn state(&self) -> State;
    /// `/healthcheck/fail` and `/healthcheck/ok`.
    fn set_health_failed(&self, failed: bool);
    /// `/drain_listeners`.
    fn drain(&self, request: DrainRequest);
    /// `/quitquitquit`.
    fn quit(&self);
    /// `/reopen_logs`.
    fn reopen_logs(&self);
    /// `/logging`: sets a level (all components where `component` is `None`) and gives every component's level. An error is
    /// the text of a 400.
    fn logging(&self, change: Option<(Option<&str>, &str)>) -> Result<Vec<(String, String)>, String>;
    /// `/runtime_modify`. An error is the text of a 503.
    fn modify_runtime(&self, changes: &[(String, String)]) -> Result<(), String>;
}

/// `/ready` and `/server_info` say one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Every listener accepts on every worker.
    Live,
    /// Draining, or failing its health check.
    Draining,
    /// Clusters wait for their first answer.
    PreInitializing,
    /// Listeners start.
    Initializing,
}

impl State {
    /// Envoy's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }
}

/// `/drain_listeners`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainRequest {
    /// `graceful`: let connections go over the drain time before listeners stop.
    pub graceful: bool,
    /// `skip_exit`: with `graceful`, listeners go on after the drain time.
    pub skip_exit: bool,
    /// `inboundonly`: listeners with `traffic_direction: INBOUND` only.
    pub inbound_only: bool,
}
