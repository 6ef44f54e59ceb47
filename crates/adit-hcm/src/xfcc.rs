//! `x-forwarded-client-cert`: what upstreams are told of the client's certificate (`forward_client_cert_details`,
//! `set_current_client_cert_details`).

use adit_access_log::Format;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_filter::{LogContext, StreamInfo};
use adit_http::RequestHead;
use http::{HeaderName, HeaderValue};
use pb::http_connection_manager::ForwardClientCertDetails as Details;

pub(crate) const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// What becomes of the field.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientCert {
    mode: Details,
    /// `By` and `Hash`, then what is configured: each a key, its value's format, and how it is written.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    key: &'static str,
    value: Format,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Left out where it has no value.
    Plain,
    /// The same, in quotes.
    Quoted,
    /// In quotes, also where it has no value.
    Always,
    /// A key for each value of a list.
    Each,
    /// The same, and one without a value where there is none.
    EachOrEmpty,
}

impl ClientCert {
    /// From the connection manager's message.
    pub(crate) fn from_proto(message: &pb::HttpConnectionManager, path: &Path) -> Result<Self, Diagnostic> {
        let set = message.set_current_client_cert_details.unwrap_or_default();
        if set.chain {
            let at = path.field("set_current_client_cert_details").field("chain");
            return Err(Diagnostic::error(at, "not implemented by adit"));
        }
        let wanted = [
            (true, "By", "%DOWNSTREAM_LOCAL_URI_SAN%", Form::Plain),
            (true, "Hash", "%DOWNSTREAM_PEER_FINGERPRINT_256%", Form::Plain),
            (set.cert, "Cert", "%DOWNSTREAM_PEER_CERT%", Form::Quoted),
            (set.subject.unwrap_or(false), "Subject", "%DOWNSTREAM_PEER_SUBJECT%", Form::Always),
            (set.uri, "URI", "%DOWNSTREAM_PEER_URI_SAN%", Form::EachOrEmpty),
            (set.dns, "DNS", "%DOWNSTREAM_PEER_DNS_SAN%", Form::Each),
            (set.issuer, "Issuer", "%DOWNSTREAM_PEER_ISSUER%", Form::Always),
        ];
        let mut parts = Vec::new();
        for (_, key, format, form) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
            let value = Format::parse_omitting(format).map_err(|error| Diagnostic::error(path, error))?;
            parts.push(Part { key, value, form });
        }
        Ok(Self { mode: message.forward_client_cert_details(), parts })
    }

    /// Changes the field of a request, which it can only have brought where it has `extensions` at all.
    pub(crate) fn apply(&self, head: &mut RequestHead, info: &StreamInfo, extensions: bool) {
        let presented = info.conn.tls.as_ref().is_some_and(|tls| !tls.peer_certificates.is_empty());
        match self.mode {
            Details::AlwaysForwardOnly => {}
            Details::ForwardOnly if presented => {}
            Details::AppendForward if presented => self.set(head, info, true),
            Details::SanitizeSet if presented => self.set(head, info, false),
            _ if extensions => {
                head.headers.remove(XFCC);
            }
            _ => {}
        }
    }

    fn set(&self, head: &mut RequestHead, info: &StreamInfo, append: bool) {
        let mut text = String::new();
        if append {
            for old in head.headers.get_all(XFCC).iter().filter_map(|value| value.to_str().ok()) {
                text.push_str(old);
                text.push(',');
            }
        }
        text.push_str(&self.element(info));
        if let Ok(value) = HeaderValue::from_str(&text) {
            head.headers.insert(XFCC, value);
        }
    }

    fn element(&self, info: &StreamInfo) -> String {
        let context = LogContext::new(info);
        let mut pairs = Vec::new();
        for Part { key, value, form } in &self.parts {
            let value = value.render(&context);
            match form {
                Form::Plain | Form::Quoted | Form::Each if value.is_empty() => {}
                Form::Plain => pairs.push(format!("{key}={}", value.split(',').next().unwrap_or_default())),
                Form::Quoted | Form::Always => pairs.push(format!("{key}=\"{}\"", value.replace('"', "\\\""))),
                Form::Each | Form::EachOrEmpty => pairs.extend(value.split(',').map(|one| format!("{key}={one}"))),
            }
        }
        pairs.join(";")
    }
}
