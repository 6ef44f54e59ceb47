//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

/// What [`crate::run`] needs to know; the binary fills it from its arguments.
#[derive(Debug, Clone)]
pub struct Options {
    /// `<commit>/<version>/Clean/RELEASE/rustls`.
    pub version: &'static str,
    /// Run the demonstration instead of a configuration.
    pub demonstration: bool,
    /// `--config-path`.
    pub config_path: Option<PathBuf>,
    /// `--config-yaml`.
    pub config_yaml: Option<String>,
    /// `--mode`.
    pub mode: Mode,
    /// Another process may listen on the same ports, each getting a part of the connections, as in Envoy with
    /// `--disable-hot-restart`, `--use-dynamic-base-id` or a `--base-id` or `--restart-epoch` other than 0.
    pub share_ports: bool,
    /// `--concurrency`; the number of processors by default.
    pub concurrency: Option<usize>,
    /// `--log-level`.
    pub log_level: LogLevel,
    /// `--component-log-level`.
    pub component_log_level: Vec<(String, LogLevel)>,
    /// `--log-path`; standard error by default.
    pub log_path: Option<PathBuf>,
    /// `--admin-address-path`.
    pub admin_address_path: Option<PathBuf>,
    /// `--drain-time-s`.
    pub drain_time: Duration,
    /// `--drain-strategy`.
    pub drain_strategy: DrainStrategy,
    /// `--file-flush-interval-msec`.
    pub file_flush_interval: Duration,
    /// `--file-flush-min-size-kb`, in bytes.
    pub file_flush_min_size: usize,
    /// `--allow-unknown-static-fields`.
    pub allow_unknown_static_fields: bool,
    /// `--skip-deprecated-logs`.
    pub skip_deprecated_logs: bool,
    /// `--service-node`.
    pub service_node: Option<String>,
    /// `--service-cluster`.
    pub service_cluster: Option<String>,
    /// `--service-zone`.
    pub service_zone: Option<String>,
    /// Flags that were given and have no effect: each is warned of.
    pub unhonoured: Vec<&'static str>,
}

/// `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Serve until told to end.
    Serve,
    /// Check the configuration, say so, end.
    Validate,
    /// Bind and initialise, then end.
    InitOnly,
}

/// `--drain-strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainStrategy {
    /// Connections are let go over the drain time, more and more of them.
    Gradual,
    /// Every connection is let go at its next convenient moment.
    Immediate,
}

/// A level of the log, under Envoy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `trace`.
    Trace,
    /// `debug`.
    Debug,
    /// `info`.
    Info,
    /// `warning` or `warn`.
    Warning,
    /// `error`.
    Error,
    /// `critical`: logged as errors here.
    Critical,
    /// `off`.
    Off,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 7] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical, Self::Off];

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "warn" {
            return Some(Self::Warning);
        }
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}
