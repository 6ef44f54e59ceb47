//! Strings and regular expressions (`envoy.type.matcher.v3`).

use adit_config::proto::envoy::r#type::matcher::v3 as pb;
use pb::string_matcher::MatchPattern;
use regex::bytes::{Regex, RegexBuilder};

use crate::ConfigError;

/// The memory one compiled expression may take, in bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// `RegexMatcher`: the whole value must match, in time linear to its length.
#[derive(Debug, Clone)]
pub struct RegexMatcher(Regex);

impl RegexMatcher {
    /// From its message.
    pub fn from_proto(message: &pb::RegexMatcher, path: &str) -> Result<Self, ConfigError> {
        Self::new(&message.regex).map_err(|error| ConfigError::new(format!("{path}.regex"), error))
    }

    /// From the expression.
    pub fn new(expression: &str) -> Result<Self, String> {
        // The expression alone first: a lone `)` must not close the group around it.
        compile(expression)?;
        compile(&format!(r"\A(?:{expression})\z")).map(Self)
    }

    /// Whether all of `value` matches.
    pub fn matches(&self, value: impl AsRef<[u8]>) -> bool {
        self.0.is_match(value.as_ref())
    }
}

fn compile(expression: &str) -> Result<Regex, String> {
    if expression.is_empty() {
        return Err("a regular expression may not be empty".into());
    }
    RegexBuilder::new(expression).size_limit(REGEX_SIZE_LIMIT).build().map_err(|error| error.to_string())
}

/// `RegexMatchAndSubstitute`: every part that matches is replaced; `\0` is the match, `\1` to `\9` are its groups.
#[derive(Debug, Clone)]
pub struct RegexSubstitution {
    pattern: Regex,
    replacement: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(Vec<u8>),
    Group(usize),
}

impl RegexSubstitution {
    /// From its message.
    pub fn from_proto(message: &pb::RegexMatchAndSubstitute, path: &str) -> Result<Self, ConfigError> {
        let pattern = message.pattern.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.pattern")))?;
        let pattern =
            compile(&pattern.regex).map_err(|error| ConfigError::new(format!("{path}.pattern.regex"), error))?;
        let replacement = pieces(&message.substitution, pattern.captures_len())
            .map_err(|error| ConfigError::new(format!("{path}.substitution"), error))?;
        Ok(Self { pattern, replacement })
    }

    /// `value` with every match replaced.
    pub fn apply(&self, value: &str) -> String {
        let replaced = self.pattern.replace_all(value.as_bytes(), |found: &regex::bytes::Captures<'_>| {
            let mut text = Vec::new();
            for piece in &self.replacement {
                match piece {
                    Piece::Text(part) => text.extend_from_slice(part),
                    Piece::Group(group) => text.extend_from_slice(found.get(*group).map_or(b"", |m| m.as_bytes())),
                }
            }
            text
        });
        String::from_utf8_lossy(&replaced).into_owned()
    }
}

fn pieces(substitution: &str, groups: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => text.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return Err(format!("refers to group {group}, which the pattern does not have"));
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Group(group));
            }
            _ => return Err("a backslash must be followed by a digit or a backslash".into()),
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// `StringMatcher`.
#[derive(Debug, Clone)]
pub struct StringMatcher {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    /// Lower case already where case is ignored.
    Contains(Box<[u8]>),
    Regex(RegexMatcher),
}

impl StringMatcher {
    /// From its message; `custom` is refused.
    pub fn from_proto(message: &pb::StringMatcher, path: &str) -> Result<Self, ConfigError> {
        let ignore_case = message.ignore_case;
        let needle = |text: &str| {
            if ignore_case { text.to_ascii_lowercase().into_bytes() } else { text.as_bytes().to_vec() }
                .into_boxed_slice()
        };
        let pattern = match &message.match_pattern {
            None => return Err(ConfigError::new(path, "a match_pattern is required")),
            Some(MatchPattern::Exact(text)) => Pattern::Exact(needle(text)),
            Some(MatchPattern::Prefix(text)) => Pattern::Prefix(needle(text)),
            Some(MatchPattern::Suffix(text)) => Pattern::Suffix(needle(text)),
            Some(MatchPattern::Contains(text)) => Pattern::Contains(needle(text)),
            Some(MatchPattern::SafeRegex(regex)) => {
                Pattern::Regex(RegexMatcher::from_proto(regex, &format!("{path}.safe_regex"))?)
            }
            Some(MatchPattern::Custom(_)) => return Err(ConfigError::unsupported(format!("{path}.custom"))),
        };
        Ok(Self { pattern, ignore_case })
    }

    /// Matches exactly this text.
    pub fn exact(text: &str) -> Self {
        Self { pattern: Pattern::Exact(text.as_bytes().into()), ignore_case: false }
    }

    /// From a list; each at `path[index]`.
    pub fn list(messages: &[pb::StringMatcher], path: &str) -> Result<Vec<Self>, ConfigError> {
        messages.iter().enumerate().map(|(index, one)| Self::from_proto(one, &format!("{path}[{index}]"))).collect()
    }

    /// Whether `value` matches. `ignore_case` folds ASCII and has no effect on regular expressions, as in Envoy.
    pub fn matches(&self, value: impl AsRef<[u8]>) -> bool {
        let value = value.as_ref();
        let equal = |a: &[u8], b: &[u8]| if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
        match &self.pattern {
            Pattern::Exact(text) => equal(value, text),
            Pattern::Prefix(text) => value.get(..text.len()).is_some_and(|start| equal(start, text)),
            Pattern::Suffix(text) => {
                value.len().checked_sub(text.len()).and_then(|at| value.get(at..)).is_some_and(|end| equal(end, text))
            }
            Pattern::Contains(text) => text.is_empty() || value.windows(text.len()).any(|window| equal(window, text)),
            Pattern::Regex(regex) => regex.matches(value),
        }
    }
}

pub(crate) fn safe_regex(message: &pb::RegexMatcher, path: &str) -> Result<StringMatcher, ConfigError> {
    Ok(StringMatcher { pattern: Pattern::Regex(RegexMatcher::from_proto(message, path)?), ignore_case: false })
}

pub(crate) fn plain(pattern: MatchPattern, path: &str) -> Result<StringMatcher, ConfigError> {
    StringMatcher::from_proto(&pb::StringMatcher { ignore_case: false, match_pattern: Some(pattern) }, path)
}

#[cfg(test)]
mod tests;
