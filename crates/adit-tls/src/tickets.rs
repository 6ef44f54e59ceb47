//! Session tickets and the server's own session cache.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

/// Sessions kept where tickets are off (rustls' own default).
const CACHED_SESSIONS: usize = 256;
/// Octets of one key of `session_ticket_keys`.
pub(crate) const TICKET_KEY: usize = 80;
const NAME: usize = 16;
const CONTEXT: usize = 32;
const TIME: usize = 8;

/// Binds what is resumed to what was asked of the first handshake: a session of one filter chain is no session of another
/// one with other demands, although the keys are shared. Also ends a session after `session_timeout`.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) context: [u8; CONTEXT],
    pub(crate) lifetime: Duration,
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Binding {
    fn bind(&self, session: &[u8]) -> Vec<u8> {
        [&self.context[..], &seconds().to_be_bytes(), session].concat()
    }

    fn unbind(&self, mut bound: Vec<u8>) -> Option<Vec<u8>> {
        let (context, rest) = bound.split_at_checked(CONTEXT)?;
        let time = u64::from_be_bytes(rest.get(..TIME)?.try_into().ok()?);
        let age = Duration::from_secs(seconds().saturating_sub(time));
        if context != self.context || age > self.lifetime {
            return None;
        }
        bound.drain(..CONTEXT + TIME);
        Some(bound)
    }
}

/// Tickets bound to their context.
#[derive(Debug)]
pub(crate) struct Tickets {
    pub(crate) keys: Arc<dyn ProducesTickets>,
    pub(crate) binding: Binding,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.binding.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.encrypt(&self.binding.bind(plain))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.binding.unbind(self.keys.decrypt(cipher)?)
    }
}

/// Keys from the configuration (`session_ticket_keys`): the first encrypts, all decrypt. Each gives its first 16 octets as
/// the key's name, and the key for AES-256-GCM by SHA-256 from the other 64.
pub(crate) struct StaticKeys(Vec<([u8; NAME], RandomizedNonceKey)>);

impl fmt::Debug for StaticKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKeys({})", self.0.len())
    }
}

impl StaticKeys {
    /// From keys of 80 octets each.
    pub(crate) fn new(keys: &[Vec<u8>]) -> Result<Self, String> {
        let made: Result<Vec<_>, String> = keys.iter().map(|key| Self::key(key)).collect();
        Ok(Self(made?))
    }

    fn key(key: &[u8]) -> Result<([u8; NAME], RandomizedNonceKey), String> {
        let wrong = || format!("Incorrect TLS session ticket key length: {} bytes, expected {TICKET_KEY}", key.len());
        if key.len() != TICKET_KEY {
            return Err(wrong());
        }
        let (name, secret) = key.split_first_chunk::<NAME>().ok_or_else(wrong)?;
        let derived = digest(&SHA256, &[b"adit session ticket", secret].concat());
        let key = RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref()).map_err(|_| wrong())?;
        Ok((*name, key))
    }
}

impl ProducesTickets for StaticKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::MAX
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.0.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(name), &mut sealed).ok()?;
        Some([&name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<12>()?;
        let (_, key) = self.0.iter().find(|(known, _)| known == name)?;
        let mut sealed = sealed.to_vec();
        let plain = key.open_in_place(Nonce::from(nonce), Aad::from(name), &mut sealed).ok()?;
        let length = plain.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// Sessions kept here because tickets are off.
#[derive(Debug)]
pub(crate) struct Sessions {
    inner: Arc<ServerSessionMemoryCache>,
    binding: Binding,
}

impl Sessions {
    pub(crate) fn new(binding: Binding) -> Self {
        Self { inner: ServerSessionMemoryCache::new(CACHED_SESSIONS), binding }
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.inner.put(key, self.binding.bind(&value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.get(key).and_then(|bound| self.binding.unbind(bound))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.take(key).and_then(|bound| self.binding.unbind(bound))
    }

    fn can_cache(&self) -> bool {
        true
    }
}
