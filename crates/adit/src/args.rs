//! The command line: Envoy's flags.

use std::path::PathBuf;
use std::time::Duration;

use adit_server::{DrainStrategy, LogLevel, Mode, Options};
use clap::{ArgAction, Parser, ValueEnum};

/// A proxy for HTTP upgrades, CONNECT, tunnels and internal listeners that reads Envoy's configuration.
///
/// Without any argument it runs a demonstration on loopback.
#[derive(Debug, Parser)]
#[command(name = "adit", disable_version_flag = true)]
pub(crate) struct Args {
    /// Configuration file, YAML or JSON (Envoy v3 Bootstrap)
    #[arg(short = 'c', long, value_name = "FILE")]
    config_path: Option<PathBuf>,
    /// Inline configuration, YAML, merged over the file
    #[arg(long, value_name = "YAML")]
    config_yaml: Option<String>,
    /// Serve, or check the configuration and exit
    #[arg(long, value_enum, default_value_t = ModeArg::Serve)]
    mode: ModeArg,
    /// Number of worker threads; the number of processors by default
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Levels of single components: `router:debug,h2:trace`
    #[arg(long, value_name = "LIST")]
    component_log_level: Option<String>,
    /// Write the log to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    log_path: Option<PathBuf>,
    /// Write the address of the admin interface to this file
    #[arg(long, value_name = "FILE")]
    admin_address_path: Option<PathBuf>,
    /// Seconds over which a draining listener lets its connections go
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    drain_time_s: u64,
    /// How connections are let go while draining
    #[arg(long, value_enum, default_value_t = DrainStrategyArg::Gradual)]
    drain_strategy: DrainStrategyArg,
    /// Milliseconds between flushes of the access-log files
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    file_flush_interval_msec: u64,
    /// Kilobytes after which an access-log file is flushed
    #[arg(long, value_name = "KB", default_value_t = 64)]
    file_flush_min_size_kb: u64,
    /// Unknown fields of the configuration are warnings
    #[arg(long, action = ArgAction::SetTrue, visible_alias = "allow-unknown-fields")]
    allow_unknown_static_fields: bool,
    /// Name of this node
    #[arg(long, value_name = "NAME")]
    service_node: Option<String>,
    /// Cluster that this node belongs to
    #[arg(long, value_name = "NAME")]
    service_cluster: Option<String>,
    /// Zone that this node runs in
    #[arg(long, value_name = "NAME")]
    service_zone: Option<String>,
    /// Print the version and exit
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) version: bool,
    /// Print the hot-restart version and exit
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) hot_restart_version: bool,
    /// Warn about nothing that is deprecated
    #[arg(long, action = ArgAction::SetTrue)]
    skip_deprecated_logs: bool,
    #[command(flatten)]
    unhonoured: Unhonoured,
}

/// Flags of Envoy that mean nothing to one process without hot restart: taken, and warned of where that may surprise.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accepted for compatibility")]
struct Unhonoured {
    /// Other than 0: another adit may listen on the same ports
    #[arg(long, value_name = "N")]
    base_id: Option<u64>,
    /// As above
    #[arg(long, action = ArgAction::SetTrue)]
    use_dynamic_base_id: bool,
    /// There is no shared memory to tell apart
    #[arg(long, value_name = "FILE")]
    base_id_path: Option<PathBuf>,
    /// There is none to disable; another adit may listen on the same ports
    #[arg(long, action = ArgAction::SetTrue)]
    disable_hot_restart: bool,
    /// There is no hot restart; other than 0: another adit may listen on the same ports
    #[arg(long, value_name = "N")]
    restart_epoch: Option<u32>,
    /// There is no parent
    #[arg(long, value_name = "SECONDS")]
    parent_shutdown_time_s: Option<u64>,
    /// The log has one format
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// As above
    #[arg(long, action = ArgAction::SetTrue)]
    log_format_escaped: bool,
    /// There are no fine-grain loggers
    #[arg(long, action = ArgAction::SetTrue)]
    enable_fine_grain_logging: bool,
    /// DNS answers decide
    #[arg(long, value_name = "VERSION")]
    local_address_ip_version: Option<String>,
    /// There is no mutex tracing
    #[arg(long, action = ArgAction::SetTrue)]
    enable_mutex_tracing: bool,
    /// The number of processors this process may use is the default anyway
    #[arg(long, action = ArgAction::SetTrue)]
    cpuset_threads: bool,
    /// Extensions cannot be disabled
    #[arg(long, value_name = "LIST")]
    disable_extensions: Option<String>,
    /// Tags on every metric are not implemented
    #[arg(long, value_name = "K:V")]
    stats_tag: Vec<String>,
    /// There is no hot-restart socket
    #[arg(long, value_name = "PATH")]
    socket_path: Option<PathBuf>,
    /// As above
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<String>,
    /// There is no dynamic configuration
    #[arg(long, action = ArgAction::SetTrue)]
    reject_unknown_dynamic_fields: bool,
    /// As above
    #[arg(long, action = ArgAction::SetTrue)]
    ignore_unknown_dynamic_fields: bool,
}

impl Unhonoured {
    /// In Envoy a second process with the same base id does not start, and a second one with any of these shares the ports.
    fn share_ports(&self) -> bool {
        self.use_dynamic_base_id
            || self.disable_hot_restart
            || self.base_id.is_some_and(|id| id != 0)
            || self.restart_epoch.is_some_and(|epoch| epoch != 0)
    }

    /// The flags that were given and that someone may have counted on.
    fn given(&self) -> Vec<&'static str> {
        [
            (self.base_id_path.is_some(), "--base-id-path"),
            (self.log_format.is_some(), "--log-format"),
            (self.log_format_escaped, "--log-format-escaped"),
            (self.enable_fine_grain_logging, "--enable-fine-grain-logging"),
            (self.local_address_ip_version.is_some(), "--local-address-ip-version"),
            (self.enable_mutex_tracing, "--enable-mutex-tracing"),
            (self.disable_extensions.is_some(), "--disable-extensions"),
            (!self.stats_tag.is_empty(), "--stats-tag"),
            (self.socket_path.is_some(), "--socket-path"),
            (self.socket_mode.is_some(), "--socket-mode"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ModeArg {
    Serve,
    Validate,
    InitOnly,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DrainStrategyArg {
    Gradual,
    Immediate,
}

impl Args {
    /// Checks what the parser cannot; `bare` is a start without any argument: the demonstration.
    pub(crate) fn into_options(self, version: &'static str, bare: bool) -> Result<Options, String> {
        if !bare && self.config_path.is_none() && self.config_yaml.is_none() {
            return Err("adit: at least one of --config-path (-c) and --config-yaml is required".to_owned());
        }
        let log_level = LogLevel::parse(&self.log_level)
            .ok_or_else(|| format!("adit: --log-level: unknown level '{}'", self.log_level))?;
        let component_log_level = parse_components(self.component_log_level.as_deref().unwrap_or_default())?;
        Ok(Options {
            version,
            demonstration: bare,
            config_path: self.config_path,
            config_yaml: self.config_yaml,
            mode: match self.mode {
                ModeArg::Serve => Mode::Serve,
                ModeArg::Validate => Mode::Validate,
                ModeArg::InitOnly => Mode::InitOnly,
            },
            share_ports: self.unhonoured.share_ports(),
            concurrency: self.concurrency.map(|n| n.max(1) as usize),
            log_level,
            component_log_level,
            log_path: self.log_path,
            admin_address_path: self.admin_address_path,
            drain_time: Duration::from_secs(self.drain_time_s),
            drain_strategy: match self.drain_strategy {
                DrainStrategyArg::Gradual => DrainStrategy::Gradual,
                DrainStrategyArg::Immediate => DrainStrategy::Immediate,
            },
            file_flush_interval: Duration::from_millis(self.file_flush_interval_msec),
            file_flush_min_size: usize::try_from(self.file_flush_min_size_kb.saturating_mul(1024))
                .unwrap_or(usize::MAX),
            allow_unknown_static_fields: self.allow_unknown_static_fields,
            skip_deprecated_logs: self.skip_deprecated_logs,
            service_node: self.service_node,
            service_cluster: self.service_cluster,
            service_zone: self.service_zone,
            unhonoured: self.unhonoured.given(),
        })
    }
}

fn parse_components(list: &str) -> Result<Vec<(String, LogLevel)>, String> {
    let items = list.split(',').filter(|item| !item.is_empty());
    items
        .map(|item| {
            let parsed =
                item.split_once(':').and_then(|(name, level)| Some((name.to_owned(), LogLevel::parse(level)?)));
            parsed.ok_or_else(|| format!("adit: --component-log-level: not a component and a level: '{item}'"))
        })
        .collect()
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
