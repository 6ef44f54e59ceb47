//! Path normalisation (RFC 3986 section 6.2.2; `normalize_path`, `merge_slashes`,
//! `path_with_escaped_slashes_action`).

use http::uri::PathAndQuery;

/// `path_with_escaped_slashes_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum EscapedSlashes {
    #[default]
    Keep,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// What is configured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PathOptions {
    pub(crate) normalize: bool,
    pub(crate) merge_slashes: bool,
    pub(crate) escaped_slashes: EscapedSlashes,
}

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Normalized {
    /// It is as it should be.
    Unchanged,
    /// Use this one.
    Path(PathAndQuery),
    /// Send the client to this one.
    Redirect(PathAndQuery),
    /// 400 `path_normalization_failed`.
    Refused,
}

pub(crate) fn normalize(path: &PathAndQuery, options: &PathOptions) -> Normalized {
    let text = path.path();
    let mut out = text.to_owned();
    let mut redirect = false;
    if options.escaped_slashes != EscapedSlashes::Keep {
        let unescaped = unescape_slashes(&out);
        if unescaped != out {
            if options.escaped_slashes == EscapedSlashes::Reject {
                return Normalized::Refused;
            }
            redirect = options.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
            out = unescaped;
        }
    }
    if options.normalize {
        match canonical(&out) {
            Some(canonical) => out = canonical,
            None => return Normalized::Refused,
        }
    }
    if options.merge_slashes {
        out = merge(&out);
    }
    if out == text {
        return Normalized::Unchanged;
    }
    if let Some(query) = path.query() {
        out.push('?');
        out.push_str(query);
    }
    match out.parse() {
        Ok(path) if redirect => Normalized::Redirect(path),
        Ok(path) => Normalized::Path(path),
        Err(_) => Normalized::Refused,
    }
}

/// `%2F`, `%2f`, `%5C`, `%5c` become slashes and backslashes.
fn unescape_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/").replace("%5C", "\\").replace("%5c", "\\")
}

/// Decodes escaped unreserved bytes, turns backslashes around, removes dot segments. `None` for a broken escape, an
/// escaped NUL, or a path that climbs above its root.
fn canonical(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let value = hex(rest.next()?)? * 16 + hex(rest.next()?)?;
                if value == 0 {
                    return None;
                }
                let char = char::from(value);
                if char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_' | '~') {
                    decoded.push(char);
                } else {
                    decoded.push_str(&format!("%{value:02X}"));
                }
            }
            b'\\' => decoded.push('/'),
            byte => decoded.push(char::from(byte)),
        }
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = decoded.strip_prefix('/')?.split('/').collect();
    let last = segments.len().checked_sub(1)?;
    for (index, segment) in segments.iter().enumerate() {
        match *segment {
            "." if index == last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop()?;
                if index == last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for char in path.chars() {
        if char != '/' || !out.ends_with('/') {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(path: &str, options: PathOptions) -> Normalized {
        normalize(&path.parse().unwrap(), &options)
    }

    fn path(text: &str) -> Normalized {
        Normalized::Path(text.parse().unwrap())
    }

    #[test]
    fn dot_segments_and_unreserved_escapes() {
        let options = PathOptions { normalize: true, ..PathOptions::default() };
        for (from, to) in [
            ("/a/./b", "/a/b"),
            ("/a/../b?x=/../y", "/b?x=/../y"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/%61%2d", "/a-"),
            ("/a%2f..", "/a%2F.."),
            ("/%2e%2e/a", "(refused)"),
            ("/../a", "(refused)"),
            ("/%00", "(refused)"),
            ("/%zz", "(refused)"),
            ("/%4", "(refused)"),
        ] {
            let expected = if to == "(refused)" { Normalized::Refused } else { path(to) };
            assert_eq!(run(from, options), expected, "{from}");
        }
        assert_eq!(run("/a//b", options), Normalized::Unchanged);
    }

    #[test]
    fn slashes() {
        let merge = PathOptions { merge_slashes: true, ..PathOptions::default() };
        assert_eq!(run("//a///b/", merge), path("/a/b/"));
        let with = |escaped_slashes| PathOptions { escaped_slashes, ..PathOptions::default() };
        assert_eq!(run("/a%2Fb", with(EscapedSlashes::Keep)), Normalized::Unchanged);
        assert_eq!(run("/a%2Fb", with(EscapedSlashes::Reject)), Normalized::Refused);
        assert_eq!(run("/a%2fb?q", with(EscapedSlashes::UnescapeAndForward)), path("/a/b?q"));
        assert_eq!(
            run("/a%2Fb", with(EscapedSlashes::UnescapeAndRedirect)),
            Normalized::Redirect("/a/b".parse().unwrap())
        );
    }
}
