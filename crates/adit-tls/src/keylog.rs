//! `key_log`: secrets of chosen connections, for debugging.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3::TlsKeyLog;
use adit_config::{Diagnostic, Path};
use adit_io::ConnInfo;
use adit_match::CidrSet;
use adit_match::certificate::hex;
use rustls::KeyLog;

/// Where secrets go, and of which connections.
pub(crate) struct KeyLogger {
    file: Mutex<File>,
    local: CidrSet,
    remote: CidrSet,
}

impl fmt::Debug for KeyLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogger")
    }
}

impl KeyLogger {
    /// From its message; the file is opened to be appended to.
    pub(crate) fn from_proto(message: &TlsKeyLog, path: &Path) -> Result<Self, Diagnostic> {
        let file = OpenOptions::new().create(true).append(true).open(&message.path).map_err(|error| {
            Diagnostic::error(path.field("path"), format!("unable to open file '{}': {error}", message.path))
        })?;
        let ranges = |list: &[_], field: &str| {
            CidrSet::from_proto(list, path.field(field).as_str())
                .map_err(|error| Diagnostic::error(error.path, error.message))
        };
        Ok(Self {
            file: Mutex::new(file),
            local: ranges(&message.local_address_range, "local_address_range")?,
            remote: ranges(&message.remote_address_range, "remote_address_range")?,
        })
    }

    /// Whether this connection's secrets are written. No range means any.
    pub(crate) fn wants(&self, info: &ConnInfo) -> bool {
        let within = |set: &CidrSet, address: &adit_io::Address| {
            set.is_empty() || address.socket().is_some_and(|address| set.contains(address.ip()))
        };
        within(&self.local, &info.local) && within(&self.remote, &info.remote)
    }
}

impl KeyLog for KeyLogger {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // One write for each line, so that lines of several workers do not mix. A full disk only costs the log.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}
