//! Fields that belong to one hop (RFC 9110 section 7.6.1).

use http::header::{self, HeaderMap, HeaderName};

/// Hop-by-hop whether `connection` names them or not.
const ALWAYS: [HeaderName; 4] = [
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
];

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

/// Whether a comma-separated list of tokens in any of the values of `name` holds `token`, without case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
}

/// Removes every field that must not cross a hop: the fixed ones, and those that `connection` names (but never one that
/// security rests on, nor a pseudo field).
///
/// With `keep_upgrade`, `connection` and `upgrade` stay, `connection` reduced to `upgrade` when it named other fields.
pub fn strip(headers: &mut HeaderMap, keep_upgrade: bool) {
    // Most messages have none; one look at the names that are there costs less than looking each of these up.
    if !headers.keys().any(|name| *name == header::CONNECTION || *name == header::UPGRADE || ALWAYS.contains(name)) {
        return;
    }
    let te_trailers = has_token(headers, &header::TE, "trailers");
    if headers.contains_key(header::CONNECTION) {
        strip_nominated(headers, keep_upgrade);
    }
    for name in &ALWAYS {
        headers.remove(name);
    }
    if te_trailers {
        headers.insert(header::TE, http::HeaderValue::from_static("trailers"));
    }
    if !keep_upgrade {
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
}

fn strip_nominated(headers: &mut HeaderMap, keep_upgrade: bool) {
    let mut names: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for item in value.to_str().unwrap_or("").split(',') {
            let item = item.trim_matches([' ', '\t']);
            let kept = ["close", "keep-alive", "upgrade", "te"].iter().any(|known| item.eq_ignore_ascii_case(known))
                || PROTECTED.iter().any(|known| item.eq_ignore_ascii_case(known));
            if !kept && let Ok(name) = HeaderName::from_bytes(item.as_bytes()) {
                names.push(name);
            }
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
