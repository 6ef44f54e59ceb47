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
    if is_plain(text) {
        return Normalized::Unchanged;
    }
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

/// Whether a path has nothing that any of the options would change: no escape, no character to escape, and no segment that is
/// empty or begins with a dot, behind the slash that it begins with.
fn is_plain(path: &str) -> bool {
    let mut slash = false;
    path.starts_with('/')
        && path.bytes().all(|byte| {
            let plain = match byte {
                b'/' | b'.' => !slash,
                b'-' | b'_' | b'~' => true,
                _ => byte.is_ascii_alphanumeric(),
            };
            slash = byte == b'/';
            plain
        })
}

/// `%2F`, `%2f`, `%5C`, `%5c` become slashes and backslashes.
fn unescape_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/").replace("%5C", "\\").replace("%5c", "\\")
}

/// Decodes escaped unreserved bytes, escapes what may not stand in a path, turns backslashes around, removes dot segments,
/// as Chromium's URL library does, which Envoy uses: a broken escape stays, and above its root a path is at its root
/// (RFC 3986 section 5.2.4). `None` for an escaped NUL.
fn canonical(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(char) = rest.chars().next() {
        let (here, after) = rest.split_at(char.len_utf8());
        rest = after;
        match char {
            '%' => match escaped(after) {
                Some(0) => return None,
                Some(value) => {
                    let (digits, after) = after.split_at_checked(2)?;
                    rest = after;
                    if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
                        decoded.push(char::from(value));
                    } else {
                        decoded.push('%');
                        decoded.push_str(digits);
                    }
                }
                None => decoded.push('%'),
            },
            '\\' => decoded.push('/'),
            '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}' => decoded.push_str(&format!("%{:02X}", u32::from(char))),
            _ => decoded.push_str(here),
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
                kept.pop();
                if index == last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

/// The byte that the two digits behind a `%` stand for.
fn escaped(after: &str) -> Option<u8> {
    let digits = after.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
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
            ("/./a%2f..%5C", "/a%2f..%5C"),
            ("/%2e%2e/a", "/a"),
            ("/../a", "/a"),
            ("/a/../../../..", "/"),
            ("/%00", "(refused)"),
            ("/a|b\"{c}", "/a%7Cb%22%7Bc%7D"),
        ] {
            let expected = if to == "(refused)" { Normalized::Refused } else { path(to) };
            assert_eq!(run(from, options), expected, "{from}");
        }
        for unchanged in ["/a//b", "/%zz", "/%4", "/%", "/a%2f..", "/[a]"] {
            assert_eq!(run(unchanged, options), Normalized::Unchanged, "{unchanged}");
        }
    }

    #[test]
    fn no_option_changes_what_is_plain() {
        let mut plain = 0;
        let mut paths = vec![String::new()];
        for _ in 0..6 {
            paths = paths.iter().flat_map(|path| "/.a%2~\\".chars().map(move |char| format!("{path}{char}"))).collect();
            for path in paths.iter().filter(|path| is_plain(path)) {
                assert_eq!(unescape_slashes(path), **path);
                assert_eq!(canonical(path).as_ref(), Some(path));
                assert_eq!(merge(path), **path);
                plain += 1;
            }
        }
        assert!(plain > 100, "{plain}");
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
