//! What HTTP/2 and HTTP/3 share on the way to the canonical form: their pseudo-header fields (RFC 9113 section 8.3, RFC 9114
//! section 4.3), and `cookie` in crumbs. `None` where a field makes its message malformed.

use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;

use crate::{RequestHead, RequestKind, Scheme, Token};

/// A `:protocol` longer than this, in octets, names nothing.
const MAX_PROTOCOL_LEN: usize = 256;

/// `:scheme`, without case (RFC 3986 section 3.1).
pub fn scheme(scheme: &[u8]) -> Option<Scheme> {
    match scheme {
        scheme if scheme.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
        scheme if scheme.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
        _ => None,
    }
}

/// `:path`: in origin form, or `*` of an OPTIONS.
pub fn path(path: &[u8], method: &Method) -> Option<PathAndQuery> {
    let asterisk = path == b"*" && *method == Method::OPTIONS;
    // A fragment is not part of a request target, and `http` would cut it off without a word.
    let fit = (path.starts_with(b"/") || asterisk) && !path.contains(&b'#');
    PathAndQuery::try_from(path).ok().filter(|_| fit)
}

/// `:protocol` is one name (RFC 8441 section 4), where `Upgrade` may be a list.
pub fn protocol(protocol: &[u8]) -> Option<Token> {
    let in_name = |octet: &u8| octet.is_ascii_graphic() && *octet != b',';
    let fit = protocol.len() <= MAX_PROTOCOL_LEN && protocol.iter().all(in_name);
    std::str::from_utf8(protocol).ok().filter(|_| fit).and_then(Token::new)
}

/// A CONNECT to the authority of `head`: it has no length.
pub fn into_connect(mut head: RequestHead) -> Option<RequestHead> {
    head.kind = RequestKind::Connect(head.authority.clone()?);
    head.path = None;
    head.headers.remove(header::CONTENT_LENGTH);
    Some(head)
}

/// Cookie crumbs become one field (RFC 9113 section 8.2.3, RFC 9114 section 4.2.1).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in headers.get_all(header::COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_all_that_came_or_are_refused() {
        for (text, method, good) in [
            (&b"/"[..], Method::GET, true),
            (b"/a?b=/c", Method::GET, true),
            (b"*", Method::OPTIONS, true),
            (b"*", Method::GET, false),
            (b"", Method::GET, false),
            (b"a", Method::GET, false),
            (b"/a#b", Method::GET, false),
            (b"/a b", Method::GET, false),
        ] {
            let path = path(text, &method);
            assert_eq!(path.is_some(), good, "{text:?}");
            assert!(path.is_none_or(|path| path.as_str().as_bytes() == text));
        }
    }

    #[test]
    fn schemes_and_protocols() {
        assert_eq!(scheme(b"HTTPS"), Some(Scheme::Https));
        assert_eq!((scheme(b"http"), scheme(b"ftp")), (Some(Scheme::Http), None));
        assert!(protocol(b"websocket").is_some_and(|token| token.is_websocket()));
        assert!(protocol(b"foo/2").is_some());
        for bad in [&b""[..], b"a, b", b"a,b", b"a\xff", &[b'a'; 257]] {
            assert!(protocol(bad).is_none(), "{bad:?}");
        }
    }
}
