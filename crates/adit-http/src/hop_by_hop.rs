//! Fields that belong to one hop (RFC 9110 section 7.6.1).

use http::header::{self, HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that `connection` may not take away: losing one changes who the request is from or where it goes.
const PROTECTED: [&str; 8] = [
    "authorization",
    "content-length",
    "cookie",
    "host",
    "proxy-authorization",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The tokens of a comma-separated list, empty ones too.
pub fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    list.split(|byte| *byte == b',').map(move |item| {
        let start = item.iter().position(|byte| !space(byte)).unwrap_or(item.len());
        let end = item.iter().rposition(|byte| !space(byte)).map_or(start, |last| last + 1);
        item.get(start..end).unwrap_or_default()
    })
}

/// The values of a list field that are text; what is not cannot be told apart into tokens.
fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::as_bytes)
}

/// Whether a comma-separated list of tokens in any of the values of `name` holds `token`, without case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    // Loops, not adapters: this is asked of every upgrade, several times.
    for text in texts(headers, name) {
        for item in tokens(text) {
            if item.eq_ignore_ascii_case(token.as_bytes()) {
                return true;
            }
        }
    }
    false
}

/// A field that is about one HTTP/1 connection; HTTP/2 and HTTP/3 have none of them (RFC 9113 section 8.2.2, RFC 9114
/// section 4.2). `te` is not among them: there it may say `trailers`.
pub fn is_connection_specific(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade")
}

/// Removes every field that must not cross a hop: the fixed ones, and those that `connection` names (but never one that
/// security rests on, nor a pseudo field).
///
/// With `keep_upgrade`, `connection` and `upgrade` stay, `connection` reduced to `upgrade` when it named other fields.
pub fn strip(headers: &mut HeaderMap, keep_upgrade: bool) {
    // Most messages have few of them or none; one look at the names that are there costs less than looking each of these up.
    let found = Found::of(headers);
    let te_trailers = found.te && has_token(headers, &header::TE, "trailers");
    if found.connection {
        strip_nominated(headers, keep_upgrade);
    }
    if found.transfer_encoding {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if found.keep_alive {
        headers.remove(KEEP_ALIVE);
    }
    if found.proxy_connection {
        headers.remove(PROXY_CONNECTION);
    }
    if found.te {
        headers.remove(header::TE);
    }
    if found.connection && !keep_upgrade {
        headers.remove(header::CONNECTION);
    }
    if found.upgrade && !keep_upgrade {
        headers.remove(header::UPGRADE);
    }
    if te_trailers {
        headers.insert(header::TE, http::HeaderValue::from_static("trailers"));
    }
}

/// Which hop-by-hop fields a head has.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one field")]
struct Found {
    connection: bool,
    upgrade: bool,
    transfer_encoding: bool,
    keep_alive: bool,
    proxy_connection: bool,
    te: bool,
}

impl Found {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => found.connection = true,
                "upgrade" => found.upgrade = true,
                "transfer-encoding" => found.transfer_encoding = true,
                "keep-alive" => found.keep_alive = true,
                "proxy-connection" => found.proxy_connection = true,
                "te" => found.te = true,
                _ => {}
            }
        }
        found
    }
}

fn strip_nominated(headers: &mut HeaderMap, keep_upgrade: bool) {
    let mut names: Vec<HeaderName> = Vec::new();
    for item in texts(headers, &header::CONNECTION).flat_map(tokens) {
        let mut kept = ["close", "keep-alive", "upgrade", "te"].iter().chain(&PROTECTED);
        let kept = kept.any(|known| item.eq_ignore_ascii_case(known.as_bytes()));
        if !kept && let Ok(name) = HeaderName::from_bytes(item) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return;
    }
    for name in names {
        headers.remove(name);
    }
    if keep_upgrade {
        headers.insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
    }
}
