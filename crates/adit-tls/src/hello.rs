//! What a ClientHello says before anything is decided: [`inspect_client_hello`].

/// What a connection's first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspect {
    /// A proper beginning of a ClientHello.
    NeedMore,
    /// Not TLS.
    NotTls,
    /// A whole ClientHello.
    Hello(ClientHello),
    /// A TLS handshake that does not begin with a well-formed ClientHello.
    Malformed,
}

/// The parts of a ClientHello that a proxy chooses by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// `server_name` (RFC 6066 section 3), in lower case. Not checked to be a host name beyond being UTF-8 without
    /// control characters.
    pub server_name: Option<Box<str>>,
    /// The protocols of `application_layer_protocol_negotiation` (RFC 7301), as sent; those that are not UTF-8 are left
    /// out.
    pub alpn: Vec<Box<str>>,
    /// The versions offered: `supported_versions`, or the legacy field without that extension.
    pub versions: Vec<u16>,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const HELLO_HEADER: usize = 4;
/// The most of a plaintext record (RFC 8446 section 5.1).
const RECORD_MOST: usize = 1 << 14;
/// The most of a ClientHello that is looked for; rustls takes no longer one either.
const HELLO_MOST: usize = 0xffff;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// Looks at a connection's first bytes, consuming none. A ClientHello may be cut into records anywhere.
pub fn inspect_client_hello(bytes: &[u8]) -> Inspect {
    let mut message = Vec::new();
    let mut rest = bytes;
    let mut first = true;
    loop {
        let payload = match record(rest) {
            Err(Inspect::NotTls) if !first => return Inspect::Malformed,
            Err(other) => return other,
            Ok((payload, after)) => {
                rest = after;
                payload
            }
        };
        // In the common case the first record is all of it, and nothing is copied.
        if first && let Some(done) = hello(payload) {
            return done;
        }
        first = false;
        message.extend_from_slice(payload);
        if let Some(done) = hello(&message) {
            return done;
        }
    }
}

/// A record of a handshake off the front, as far as it is there. A record that is not whole is `NeedMore`.
fn record(bytes: &[u8]) -> Result<(&[u8], &[u8]), Inspect> {
    let at = |index: usize| bytes.get(index).copied();
    // What there is must be right, so that something else is told by its first byte.
    if at(0).is_some_and(|kind| kind != HANDSHAKE) || at(1).is_some_and(|major| major != 3) {
        return Err(Inspect::NotTls);
    }
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else { return Err(Inspect::NeedMore) };
    let length = header.get(3..).map_or(0, number);
    if length == 0 || length > RECORD_MOST {
        return Err(Inspect::Malformed);
    }
    rest.split_at_checked(length).ok_or(Inspect::NeedMore)
}

/// `None` while the message is not whole.
fn hello(message: &[u8]) -> Option<Inspect> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Some(Inspect::Malformed);
    }
    let (header, body) = message.split_at_checked(HELLO_HEADER)?;
    let length = header.get(1..).map_or(0, number);
    if length > HELLO_MOST {
        return Some(Inspect::Malformed);
    }
    let body = body.get(..length)?;
    Some(parse(body).map_or(Inspect::Malformed, Inspect::Hello))
}

fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    let version = reader.u16()?;
    reader.take(32)?;
    let session = reader.vector(1)?;
    let suites = reader.vector(2)?;
    let compressions = reader.vector(1)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let mut hello = ClientHello { versions: vec![version], ..ClientHello::default() };
    if reader.0.is_empty() {
        // TLS 1.2 without extensions.
        return Some(hello);
    }
    let mut extensions = Reader(reader.vector(2)?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut seen = 0_u8;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = Reader(extensions.vector(2)?);
        let bit = match kind {
            SERVER_NAME => 1,
            ALPN => 2,
            SUPPORTED_VERSIONS => 4,
            _ => continue,
        };
        // RFC 8446 section 4.2: no extension twice.
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        match kind {
            SERVER_NAME => hello.server_name = server_name(data)?,
            ALPN => hello.alpn = alpn(data)?,
            _ => hello.versions = versions(data)?,
        }
    }
    Some(hello)
}

fn server_name(mut data: Reader<'_>) -> Option<Option<Box<str>>> {
    let mut list = Reader(data.vector(2)?);
    if !data.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut name = None;
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let text = list.vector(2)?;
        if kind == 0 && name.is_none() {
            let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?;
            if text.chars().any(char::is_control) {
                return None;
            }
            name = Some(text.to_ascii_lowercase().into_boxed_str());
        }
    }
    Some(name)
}

fn alpn(mut data: Reader<'_>) -> Option<Vec<Box<str>>> {
    let mut list = Reader(data.vector(2)?);
    if !data.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector(1).filter(|protocol| !protocol.is_empty())?;
        protocols.extend(std::str::from_utf8(protocol).ok().map(Box::from));
    }
    Some(protocols)
}

fn versions(mut data: Reader<'_>) -> Option<Vec<u16>> {
    let list = data.vector(1).filter(|list| !list.is_empty() && list.len() % 2 == 0)?;
    data.0.is_empty().then(|| list.chunks_exact(2).map(|pair| number(pair) as u16).collect())
}

/// Big-endian, at most four bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|pair| number(pair) as u16)
    }

    /// Bytes behind their own length, of `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = number(self.take(width)?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
