//! What signals ask of the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM or SIGINT: end, in order.
    Terminate,
    /// SIGUSR1: open log files anew.
    ReopenLogs,
}

/// The signals that mean something. SIGHUP is taken and ignored, as by Envoy; SIGPIPE is ignored by Rust's runtime.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    usr1: Signal,
    hup: Signal,
}

impl Signals {
    /// From here on these signals no longer kill the process.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            tokio::select! {
                _ = self.term.recv() => return Request::Terminate,
                _ = self.int.recv() => return Request::Terminate,
                _ = self.usr1.recv() => return Request::ReopenLogs,
                _ = self.hup.recv() => tracing::info!("SIGHUP is ignored"),
            }
        }
    }
}
