//! Operators that need a little more than one field: paths, names of the machine, details, gRPC.

use std::sync::{Arc, LazyLock};

use adit_filter::{LogContext, StreamInfo};
use adit_http::RequestHead;
use http::HeaderName;

use super::Val;

/// What gRPC answers carry.
pub(super) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

static ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// `%PATH(X:Y)%`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathForm {
    query: bool,
    path: bool,
    original: bool,
}

impl PathForm {
    pub fn parse(argument: &str) -> Result<Self, String> {
        let (query, source) = argument.split_once(':').unwrap_or((argument, ""));
        let query = match query {
            "" | "WQ" => true,
            "NQ" => false,
            other => return Err(format!("Invalid PATH option: {other}. Expected WQ or NQ")),
        };
        let (path, original) = match source {
            "" | "ORIG_OR_PATH" => (true, true),
            "PATH" => (true, false),
            "ORIG" => (false, true),
            other => return Err(format!("Invalid PATH option: {other}. Expected PATH, ORIG or ORIG_OR_PATH")),
        };
        Ok(Self { query, path, original })
    }

    pub fn field(self) -> Option<&'static HeaderName> {
        self.original.then_some(&ORIGINAL_PATH)
    }

    pub fn value<'a>(self, head: Option<&'a RequestHead>) -> Val<'a> {
        let Some(head) = head else { return Val::Missing };
        let original = head.headers.get(&ORIGINAL_PATH).filter(|_| self.original).and_then(|value| value.to_str().ok());
        let path = original.or_else(|| head.path.as_ref().filter(|_| self.path).map(|path| path.as_str()));
        match path {
            Some(path) if !self.query => Val::text(path.split('?').next()),
            path => Val::text(path),
        }
    }
}

/// The machine's name.
pub(super) fn hostname() -> Option<Arc<str>> {
    static NAME: LazyLock<Option<Arc<str>>> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(text.trim()).filter(|text| !text.is_empty()).map(Arc::from)
    });
    NAME.clone()
}

/// `%RESPONSE_CODE_DETAILS%`; spaces are underscores unless asked for.
pub(super) fn details(info: &StreamInfo, whitespace: bool) -> Val<'_> {
    if whitespace { Val::text(info.details.as_deref()) } else { word(info.details.as_deref()) }
}

/// A text as one word, so that lines can be split at their spaces.
pub(super) fn word(text: Option<&str>) -> Val<'_> {
    match text {
        Some(text) if text.contains(char::is_whitespace) => Val::Owned(text.replace(char::is_whitespace, "_")),
        text => Val::text(text),
    }
}

const GRPC_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// `%GRPC_STATUS%`: from the trailers, else from the head.
pub(super) fn grpc_status<'a>(context: &LogContext<'a>, number: bool) -> Val<'a> {
    let trailers = context.trailers.and_then(|trailers| trailers.get(&GRPC_STATUS));
    let value = trailers.or_else(|| context.response.and_then(|head| head.headers.get(&GRPC_STATUS)));
    let Some(code) = value.and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok()) else {
        return Val::Missing;
    };
    let name = usize::try_from(code).ok().and_then(|code| GRPC_NAMES.get(code));
    match name {
        Some(name) if !number => Val::Str(name),
        _ => Val::Int(code),
    }
}
