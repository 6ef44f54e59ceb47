//! QUIC listeners (`udp_listener_config.quic_options`): HTTP/3 connections for the connection manager.
//!
//! Deliberately unknown here: frames and streams (adit-h3), requests (adit-hcm), which socket a worker owns
//! (adit-listener hands it over).
//!
//! Read first: [`QuicListener`].
//!
//! Floor F3.

mod config;
mod serve;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use adit_filter::AccessLog;
use adit_h3::endpoint::{Admission, QuicOptions};
use adit_hcm::Hcm;
use adit_tls::Acceptor;

pub use config::Factories;
use stats::QuicStats;

/// A QUIC listener as configured; shared by its workers.
pub struct QuicListener {
    chain_name: Option<Arc<str>>,
    tls: Arc<Acceptor>,
    hcm: Arc<Hcm>,
    options: QuicOptions,
    admission: Admission,
    access_logs: Vec<Arc<dyn AccessLog>>,
    stats: QuicStats,
    workers: u8,
    setup: std::sync::OnceLock<Result<adit_h3::endpoint::ServerSetup, String>>,
}

/// How long connections may take to close once the listener ends.
const CLOSING: Duration = Duration::from_secs(1);
