//! `%REQ(X?Y)%` and its kin: fields of messages.

use std::borrow::Cow;

use adit_http::{RequestHead, ResponseHead};
use http::{HeaderMap, HeaderName};

use super::Val;

/// A field's name, pseudo fields included.
#[derive(Debug, Clone)]
pub(super) enum FieldName {
    /// `:path` and its like, and `host`.
    Pseudo(Box<str>),
    Field(HeaderName),
}

impl FieldName {
    fn new(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with(':') || lower == "host" {
            return Ok(Self::Pseudo(lower.into()));
        }
        HeaderName::from_bytes(lower.as_bytes()).map(Self::Field).map_err(|_| format!("'{name}' is not a header name"))
    }

    fn field(&self) -> Option<&HeaderName> {
        match self {
            Self::Field(name) => Some(name),
            Self::Pseudo(_) => None,
        }
    }

    fn in_request<'a>(&self, head: &'a RequestHead) -> Option<Val<'a>> {
        match self {
            Self::Field(name) => head.headers.get(name).map(Val::Header),
            Self::Pseudo(name) => match head.field(name)? {
                Cow::Borrowed(bytes) => Some(Val::Cow(Cow::Borrowed(bytes))),
                Cow::Owned(bytes) => Some(Val::Cow(Cow::Owned(bytes))),
            },
        }
    }

    fn in_response<'a>(&self, head: &'a ResponseHead) -> Option<Val<'a>> {
        match self {
            Self::Field(name) => head.headers.get(name).map(Val::Header),
            Self::Pseudo(name) if &**name == ":status" => Some(Val::Str(head.status.as_str())),
            Self::Pseudo(_) => None,
        }
    }

    fn in_map<'a>(&self, headers: &'a HeaderMap) -> Option<Val<'a>> {
        self.field().and_then(|name| headers.get(name)).map(Val::Header)
    }
}

/// `main?alternative`.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    main: FieldName,
    alternative: Option<FieldName>,
}

impl Fields {
    pub fn parse(operator: &str, argument: Option<&str>) -> Result<Self, String> {
        let argument =
            argument.filter(|text| !text.is_empty()).ok_or_else(|| format!("{operator} needs a header name"))?;
        let (main, alternative) = match argument.split_once('?') {
            None => (argument, None),
            Some((_, second)) if second.contains('?') => {
                return Err(format!("More than 1 alternative header specified in token: {argument}"));
            }
            Some((first, second)) => (first, Some(second)),
        };
        Ok(Self { main: FieldName::new(main)?, alternative: alternative.map(FieldName::new).transpose()? })
    }

    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.main.field().into_iter().chain(self.alternative.as_ref().and_then(FieldName::field))
    }

    fn find<'a>(&self, get: impl Fn(&FieldName) -> Option<Val<'a>>) -> Val<'a> {
        get(&self.main).or_else(|| self.alternative.as_ref().and_then(get)).unwrap_or(Val::Missing)
    }

    pub fn request<'a>(&self, head: Option<&'a RequestHead>) -> Val<'a> {
        head.map_or(Val::Missing, |head| self.find(|name| name.in_request(head)))
    }

    /// The value up to its query (`%REQ_WITHOUT_QUERY%`).
    pub fn without_query<'a>(&self, head: Option<&'a RequestHead>) -> Val<'a> {
        let mut text = String::new();
        if !self.request(head).write(&mut text) {
            return Val::Missing;
        }
        if let Some(at) = text.find('?') {
            text.truncate(at);
        }
        Val::Owned(text)
    }

    pub fn response<'a>(&self, head: Option<&'a ResponseHead>) -> Val<'a> {
        head.map_or(Val::Missing, |head| self.find(|name| name.in_response(head)))
    }

    pub fn trailers<'a>(&self, trailers: Option<&'a HeaderMap>) -> Val<'a> {
        trailers.map_or(Val::Missing, |headers| self.find(|name| name.in_map(headers)))
    }
}
