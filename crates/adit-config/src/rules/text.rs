//! Rules of strings.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;

use crate::proto::validate::string_rules::WellKnown;
use crate::proto::validate::{KnownRegex, StringRules};

pub(super) fn check(rules: &StringRules, value: &str) -> Result<(), String> {
    if rules.ignore_empty() && value.is_empty() {
        return Ok(());
    }
    if rules.r#const.as_ref().is_some_and(|only| only != value) {
        return Err(format!("value must equal {}", rules.r#const()));
    }
    lengths(value.chars().count() as u64, rules.len, rules.min_len, rules.max_len, "characters")?;
    lengths(value.len() as u64, rules.len_bytes, rules.min_bytes, rules.max_bytes, "bytes")?;
    if let Some(pattern) = &rules.pattern
        && !matches(pattern, value)
    {
        return Err(format!("value does not match regex pattern {pattern:?}"));
    }
    if rules.prefix.as_ref().is_some_and(|prefix| !value.starts_with(prefix.as_str())) {
        return Err(format!("value does not have prefix {:?}", rules.prefix()));
    }
    if rules.suffix.as_ref().is_some_and(|suffix| !value.ends_with(suffix.as_str())) {
        return Err(format!("value does not have suffix {:?}", rules.suffix()));
    }
    if rules.contains.as_ref().is_some_and(|part| !value.contains(part.as_str())) {
        return Err(format!("value does not contain substring {:?}", rules.contains()));
    }
    if rules.not_contains.as_ref().is_some_and(|part| value.contains(part.as_str())) {
        return Err(format!("value contains substring {:?}", rules.not_contains()));
    }
    if !rules.r#in.is_empty() && !rules.r#in.iter().any(|one| one == value) {
        return Err(format!("value must be in list {:?}", rules.r#in));
    }
    if rules.not_in.iter().any(|one| one == value) {
        return Err(format!("value must not be in list {:?}", rules.not_in));
    }
    rules.well_known.as_ref().map_or(Ok(()), |rule| well_known(rule, rules.strict(), value))
}

pub(super) fn lengths(
    length: u64,
    exact: Option<u64>,
    min: Option<u64>,
    max: Option<u64>,
    unit: &str,
) -> Result<(), String> {
    if let Some(exact) = exact.filter(|exact| *exact != length) {
        return Err(format!("value length must be {exact} {unit}"));
    }
    match (min, max) {
        (Some(min), Some(max)) if length < min || length > max => {
            Err(format!("value length must be between {min} and {max} {unit}, inclusive"))
        }
        (Some(min), None) if length < min => Err(format!("value length must be at least {min} {unit}")),
        (None, Some(max)) if length > max => Err(format!("value length must be at most {max} {unit}")),
        _ => Ok(()),
    }
}

/// Patterns come from the schema, so there are few; each is compiled once.
static PATTERNS: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);

fn matches(pattern: &str, value: &str) -> bool {
    let mut all = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = all.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
    // A test compiles every pattern of the schema.
    compiled.as_ref().is_none_or(|regex| regex.is_match(value))
}

fn well_known(rule: &WellKnown, strict: bool, value: &str) -> Result<(), String> {
    let (good, what) = match rule {
        WellKnown::Email(true) => (email(value), "email address"),
        WellKnown::Hostname(true) => (hostname(value), "hostname"),
        WellKnown::Ip(true) => (value.parse::<IpAddr>().is_ok(), "IP address"),
        WellKnown::Ipv4(true) => (value.parse::<Ipv4Addr>().is_ok(), "IPv4 address"),
        WellKnown::Ipv6(true) => (value.parse::<Ipv6Addr>().is_ok(), "IPv6 address"),
        WellKnown::Uri(true) => (uri(value), "absolute URI"),
        WellKnown::UriRef(true) => (!value.contains(|c: char| c.is_whitespace() || c.is_control()), "URI"),
        WellKnown::Address(true) => (hostname(value) || value.parse::<IpAddr>().is_ok(), "hostname, or ip address"),
        WellKnown::Uuid(true) => (uuid(value), "UUID"),
        WellKnown::WellKnownRegex(number) => match KnownRegex::try_from(*number) {
            Ok(KnownRegex::HttpHeaderName) => (header_name(value, strict), "HTTP header name"),
            Ok(KnownRegex::HttpHeaderValue) => (header_value(value, strict), "HTTP header value"),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    if good { Ok(()) } else { Err(format!("value must be a valid {what}")) }
}

/// Strict: `^:?[0-9a-zA-Z!#$%&'*+-.^_|~\x60]+$`; else anything but NUL, CR and LF, nothing included.
fn header_name(value: &str, strict: bool) -> bool {
    if !strict {
        return !value.contains(['\0', '\r', '\n']);
    }
    let rest = value.strip_prefix(':').unwrap_or(value);
    !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+,-.^_|~`".contains(c))
}

/// Strict: no control character but the tab; else anything but NUL, CR and LF.
fn header_value(value: &str, strict: bool) -> bool {
    if !strict {
        return !value.contains(['\0', '\r', '\n']);
    }
    !value.contains(|c: char| c.is_ascii_control() && c != '\t')
}

/// RFC 1034 section 3.5.
fn hostname(value: &str) -> bool {
    let value = value.strip_suffix('.').unwrap_or(value);
    value.len() <= 253
        && value.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
}

fn email(value: &str) -> bool {
    value.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && local.len() <= 64 && hostname(domain))
}

fn uri(value: &str) -> bool {
    value.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == b'-',
            _ => c.is_ascii_hexdigit(),
        })
}
