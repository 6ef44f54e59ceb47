//! The URI template of a CONNECT-UDP (RFC 9298 section 2).

use crate::ConnectTarget;
use crate::target::{TargetError, udp_target};

const HOST: &str = "{target_host}";
const PORT: &str = "{target_port}";
/// A query of both, as RFC 6570 section 3.2.8 expands it.
const QUERY: [(&str, &str); 2] = [
    ("{?target_host,target_port}", "?target_host={target_host}&target_port={target_port}"),
    ("{?target_port,target_host}", "?target_port={target_port}&target_host={target_host}"),
];

/// A URI template with the variables `target_host` and `target_port`, as a server matches it: its scheme and authority are
/// the client's business and are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpTemplate {
    before: Box<str>,
    between: Box<str>,
    after: Box<str>,
    port_first: bool,
}

/// Why a text is no template that can be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A variable is missing, stands there twice, or there is another expression.
    #[error("the template must hold {{target_host}} and {{target_port}} once each, and no other expression")]
    Variables,
    /// No path, or characters that a URI cannot have.
    #[error("the template must be a path, or a URI with one, of visible ASCII characters and without a fragment")]
    Path,
    /// Where one variable ends and the other one begins is not to be seen.
    #[error("there must be a delimiter between the variables and behind them: '/', '?', '&', ';', ',' or the end")]
    Delimiter,
}

impl UdpTemplate {
    /// Parses `https://proxy.example/masque?h={target_host}&p={target_port}`, or the same without scheme and authority.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut path = match text.split_once("://") {
            Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).ok_or(TemplateError::Path)?.to_owned(),
            None => text.to_owned(),
        };
        for (short, long) in QUERY {
            path = path.replace(short, long);
        }
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(TemplateError::Path);
        }
        let (host, port) = (path.find(HOST), path.find(PORT));
        let (Some(host), Some(port)) = (host, port) else { return Err(TemplateError::Variables) };
        let (first, second) = if host < port { (HOST, PORT) } else { (PORT, HOST) };
        let (before, rest) = path.split_once(first).ok_or(TemplateError::Variables)?;
        let (between, after) = rest.split_once(second).ok_or(TemplateError::Variables)?;
        if [before, between, after].iter().any(|part| part.contains(['{', '}'])) {
            return Err(TemplateError::Variables);
        }
        let delimits = |text: &str| text.starts_with(['/', '?', '&', ';', ',']);
        if !delimits(between) || !(after.is_empty() || delimits(after)) {
            return Err(TemplateError::Delimiter);
        }
        Ok(Self { before: before.into(), between: between.into(), after: after.into(), port_first: port < host })
    }

    /// The target in a path with its query; `None` if the template does not match.
    pub fn target(&self, path: &str) -> Option<Result<ConnectTarget, TargetError>> {
        let rest = path.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let (first, second) = rest.split_once(&*self.between)?;
        if [first, second].iter().any(|value| value.contains(['/', '?', '&', ';', ','])) {
            return None;
        }
        let (host, port) = if self.port_first { (second, first) } else { (first, second) };
        Some(udp_target(host, port))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn target(template: &str, path: &str) -> Option<Result<String, TargetError>> {
        UdpTemplate::parse(template).unwrap().target(path).map(|found| found.map(|found| found.to_string()))
    }

    #[test]
    fn the_examples_of_rfc_9298_section_2() {
        let found = Some(Ok("[2001:db8::42]:443".to_owned()));
        let path = "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/";
        assert_eq!(target("https://example.org/.well-known/masque/udp/{target_host}/{target_port}/", path), found);
        let path = "/masque?h=2001%3Adb8%3A%3A42&p=443";
        assert_eq!(target("https://proxy.example.org:4443/masque?h={target_host}&p={target_port}", path), found);
        let path = "/masque?target_host=2001%3Adb8%3A%3A42&target_port=443";
        assert_eq!(target("https://proxy.example.org:4443/masque{?target_host,target_port}", path), found);
    }

    #[test]
    fn what_does_not_match_is_none_and_what_is_no_target_an_error() {
        let template = "/udp/{target_port}/{target_host}";
        assert_eq!(target(template, "/udp/53/a.b"), Some(Ok("a.b:53".to_owned())));
        for path in ["/udp/53", "/udp/53/a/b", "/tcp/53/a", "/udp/53/a?x", ""] {
            assert_eq!(target(template, path), None, "{path}");
        }
        assert_eq!(target(template, "/udp/0/a"), Some(Err(TargetError::Port)));
        assert_eq!(target(template, "/udp//a"), Some(Err(TargetError::NoPort)));
        assert_eq!(target(template, "/udp/53/"), Some(Err(TargetError::Host)));
        // A prefix and a suffix that overlap in the path.
        assert_eq!(target("/a/{target_host}/{target_port}/a/", "/a/"), None);
    }

    #[test]
    fn templates_that_cannot_be_matched_are_refused() {
        for (text, error) in [
            ("https://proxy.example", TemplateError::Path),
            ("masque/{target_host}/{target_port}", TemplateError::Path),
            ("/{target_host}/{target_port}#x", TemplateError::Path),
            ("/{target_host}/{target_port} ", TemplateError::Path),
            ("/{target_host}/", TemplateError::Variables),
            ("/{target_host}/{target_port}/{target_host}", TemplateError::Variables),
            ("/{+target_host}/{target_port}", TemplateError::Variables),
            ("/{x}/{target_host}/{target_port}", TemplateError::Variables),
            ("/{target_host}{target_port}", TemplateError::Delimiter),
            ("/{target_host}/{target_port}x", TemplateError::Delimiter),
        ] {
            assert_eq!(UdpTemplate::parse(text), Err(error), "{text}");
        }
    }
}
