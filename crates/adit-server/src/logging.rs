//! The process's own log: levels by component, changed at run time, to standard error or a file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::options::LogLevel;

/// The components whose levels can be set, with the crates behind each. Envoy's names where it has one.
const COMPONENTS: &[(&str, &[&str])] = &[
    ("admin", &["adit_admin"]),
    ("config", &["adit_config"]),
    ("connection", &["adit_io", "adit_listener"]),
    ("dns", &["adit_upstream::dns"]),
    ("filter", &["adit_filters", "adit_tcp_proxy", "adit_udp_proxy"]),
    ("hc", &["adit_upstream::health"]),
    ("http", &["adit_hcm", "adit_h1"]),
    ("http2", &["adit_h2"]),
    ("main", &["adit_server", "adit_runtime"]),
    ("quic", &["adit_h3", "quinn", "quinn_proto"]),
    ("router", &["adit_router"]),
    ("tls", &["adit_tls", "rustls"]),
    ("upstream", &["adit_upstream"]),
];

/// Changes levels while the process runs; clones share them.
#[derive(Clone)]
pub struct LogControl {
    levels: Arc<RwLock<BTreeMap<&'static str, LogLevel>>>,
    reload: Option<reload::Handle<Targets, Registry>>,
    output: Output,
}

impl LogControl {
    /// Installs the process's logger. Called once; a second call changes nothing but what it returns.
    pub fn install(level: LogLevel, components: &[(String, LogLevel)], path: Option<&Path>) -> io::Result<Self> {
        let output = Output::open(path)?;
        let levels = COMPONENTS.iter().map(|(name, _)| (*name, level)).collect();
        let mut control = Self { levels: Arc::new(RwLock::new(levels)), reload: None, output: output.clone() };
        let (filter, handle) = reload::Layer::new(Targets::new());
        let format = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || output.clone());
        if tracing_subscriber::registry().with(filter).with(format).try_init().is_ok() {
            control.reload = Some(handle);
        }
        let unknown: Vec<_> = components.iter().filter(|(name, level)| !control.set(name, *level)).collect();
        control.apply();
        for (name, _) in unknown {
            let known: Vec<_> = COMPONENTS.iter().map(|(known, _)| *known).collect();
            tracing::warn!("--component-log-level: there is no component '{name}', only {}", known.join(", "));
        }
        Ok(control)
    }

    /// Sets the level of one component; false when there is no such component.
    pub fn set(&self, component: &str, level: LogLevel) -> bool {
        let found = {
            let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
            levels.get_mut(component).map(|slot| *slot = level).is_some()
        };
        self.apply();
        found
    }

    /// Sets the level of every component.
    pub fn set_all(&self, level: LogLevel) {
        self.levels.write().unwrap_or_else(PoisonError::into_inner).values_mut().for_each(|slot| *slot = level);
        self.apply();
    }

    /// Every component with its level.
    pub fn levels(&self) -> Vec<(&'static str, LogLevel)> {
        self.levels.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, level)| (*name, *level)).collect()
    }

    /// Opens the log file anew (SIGUSR1).
    pub fn reopen(&self) -> io::Result<()> {
        self.output.reopen()
    }

    fn apply(&self) {
        let Some(reload) = &self.reload else { return };
        let levels = self.levels();
        // Crates of no component say no more than warnings, and no more than the process itself.
        let main = levels.iter().find(|(name, _)| *name == "main").map_or(LogLevel::Warning, |(_, level)| *level);
        let mut targets = Targets::new().with_default(filter(main.max(LogLevel::Warning)));
        for (name, level) in levels {
            let crates = COMPONENTS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, crates)| crates);
            for target in crates {
                targets = targets.with_target(*target, filter(level));
            }
        }
        // Fails only when the subscriber is gone, at the end of the process.
        let _ = reload.reload(targets);
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

/// Where lines go.
#[derive(Clone)]
struct Output(Option<Arc<(PathBuf, Mutex<File>)>>);

impl Output {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        Ok(Self(Some(Arc::new((path.to_owned(), Mutex::new(append(path)?))))))
    }

    fn reopen(&self) -> io::Result<()> {
        if let Some(shared) = &self.0 {
            let file = append(&shared.0)?;
            *shared.1.lock().unwrap_or_else(PoisonError::into_inner) = file;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(shared) => shared.1.lock().unwrap_or_else(PoisonError::into_inner).write(data),
            None => io::stderr().write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.0 {
            Some(shared) => shared.1.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            None => io::stderr().flush(),
        }
    }
}
