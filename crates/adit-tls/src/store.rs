//! The certificates in use: watched for changes, and shown.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use adit_config::Diagnostic;
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use adit_match::certificate::Certificate;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use serde_json::{Value, json};

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
const DAY: u64 = 86_400;

/// What transport sockets are built with: the secrets of `static_resources`, and where certificates are kept track of.
#[derive(Clone)]
pub struct TlsEnv {
    pub(crate) secrets: Arc<[Secret]>,
    pub(crate) store: CertificateStore,
}

impl TlsEnv {
    /// With these static secrets.
    pub fn new(secrets: &[Secret], store: CertificateStore) -> Self {
        Self { secrets: secrets.into(), store }
    }

    /// Where certificates are kept track of.
    pub fn store(&self) -> &CertificateStore {
        &self.store
    }
}

/// All certificates of the process. A clone is the same store. One for each process: the keys of session tickets are
/// here too, shared by all workers and listeners.
#[derive(Clone)]
pub struct CertificateStore(Arc<Inner>);

struct Inner {
    entries: Mutex<Vec<Entry>>,
    tickets: Arc<dyn ProducesTickets>,
}

struct Entry {
    user: Weak<dyn Watched>,
    /// What its files were when they were last read, whether that worked or not.
    seen: Vec<Stamp>,
}

/// Enough of a file to see that it is another one.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A user of certificates.
pub(crate) trait Watched: Send + Sync {
    /// The files that it was made from.
    fn files(&self) -> Vec<PathBuf>;
    /// Reads them again; what is wrong with them changes nothing.
    fn reload(&self) -> Result<(), Vec<Diagnostic>>;
    /// What it uses now.
    fn shown(&self) -> Shown;
}

impl CertificateStore {
    /// An empty one.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self(Arc::new(Inner { entries: Mutex::default(), tickets: Ticketer::new()? })))
    }

    pub(crate) fn tickets(&self) -> Arc<dyn ProducesTickets> {
        self.0.tickets.clone()
    }

    pub(crate) fn add(&self, user: &Arc<dyn Watched>) {
        let seen = stamps(&user.files());
        self.lock().push(Entry { user: Arc::downgrade(user), seen });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for changed files every two seconds, for ever. To be driven on a thread that may read files.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.poll_files();
        }
    }

    /// Looks for changed files once; how many users now have new certificates. Those whose new files cannot be used keep
    /// what they had until the files change again.
    pub fn poll_files(&self) -> usize {
        let mut changed = 0;
        self.lock().retain_mut(|entry| {
            let Some(user) = entry.user.upgrade() else { return false };
            let now = stamps(&user.files());
            if now == entry.seen {
                return true;
            }
            // Taken before the files are read: what changes meanwhile is seen next time.
            entry.seen = now;
            match user.reload() {
                Ok(()) => changed += 1,
                Err(problems) => {
                    for problem in problems {
                        tracing::warn!("changed certificates are not used: {problem}");
                    }
                }
            }
            true
        });
        changed
    }

    fn shown(&self) -> Vec<Shown> {
        self.lock().iter().filter_map(|entry| entry.user.upgrade()).map(|user| user.shown()).collect()
    }

    /// `/certs`, in Envoy's form.
    pub fn describe(&self) -> Value {
        let now = SystemTime::now();
        let list = |facts: &[CertificateFacts]| facts.iter().map(|one| one.describe(now)).collect::<Vec<_>>();
        let shown = self.shown();
        let certificates: Vec<Value> = shown
            .iter()
            .filter(|one| !one.ca.is_empty() || !one.chain.is_empty())
            .map(|one| json!({ "ca_cert": list(&one.ca), "cert_chain": list(&one.chain) }))
            .collect();
        json!({ "certificates": certificates })
    }

    /// `server.days_until_first_cert_expiring`; `None` without any certificate.
    pub fn days_until_first_expiring(&self) -> Option<u64> {
        let now = SystemTime::now();
        let shown = self.shown();
        shown.iter().flat_map(|one| one.ca.iter().chain(&one.chain)).map(|facts| facts.days_left(now)).min()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len(), data.ino()))
    };
    files.iter().map(stamp).collect()
}

/// What `/certs` shows of one TLS context.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    pub(crate) ca: Vec<CertificateFacts>,
    pub(crate) chain: Vec<CertificateFacts>,
}

/// What `/certs` shows of one certificate.
#[derive(Clone)]
pub(crate) struct CertificateFacts {
    path: String,
    certificate: Certificate,
}

impl CertificateFacts {
    pub(crate) fn new(der: &[u8], path: &str) -> Option<Self> {
        Some(Self { path: path.to_owned(), certificate: Certificate::from_der(der)? })
    }

    /// Unix time of its end.
    pub(crate) fn expiration(&self) -> u64 {
        seconds(self.certificate.not_after)
    }

    fn days_left(&self, now: SystemTime) -> u64 {
        self.expiration().saturating_sub(seconds(Some(now))) / DAY
    }

    fn describe(&self, now: SystemTime) -> Value {
        let one = &self.certificate;
        let names = |kind: &str, list: &[String]| {
            list.iter()
                .map(|name| Value::Object([(kind.to_owned(), name.clone().into())].into_iter().collect()))
                .collect()
        };
        let all: Vec<Vec<Value>> =
            vec![names("dns", &one.dns_names), names("uri", &one.uri_names), names("ip_address", &one.ip_names)];
        json!({
            "path": self.path,
            "serial_number": one.serial,
            "subject_alt_names": all.concat(),
            "days_until_expiration": self.days_left(now).to_string(),
            "valid_from": timestamp(seconds(one.not_before)),
            "expiration_time": timestamp(self.expiration()),
        })
    }
}

fn seconds(time: Option<SystemTime>) -> u64 {
    time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}

/// RFC 3339 in UTC.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    // Civil date from days, by eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn timestamps_are_civil_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
