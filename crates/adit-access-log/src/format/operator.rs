//! One operator: its name and argument, and what it gives.

use std::sync::Arc;
use std::time::SystemTime;

use adit_filter::LogContext;
use http::HeaderName;

use super::header::Fields;
use super::structured::{MetadataPath, StateObject};
use super::time::{CommonDuration, TimeFormat};
use super::tls::{TlsFact, Whose};
use super::{Look, Val, names, simple};

/// One operator.
#[derive(Debug, Clone)]
pub(super) enum Operator {
    /// Reads one fact of the stream.
    Simple(for<'a> fn(&LogContext<'a>) -> Val<'a>),
    /// Decided when the format was parsed: `%HOSTNAME%`, `%ENVIRONMENT(X)%`.
    Fixed(Option<Arc<str>>),
    LocalReplyBody,
    Request(Fields),
    RequestWithoutQuery(Fields),
    Response(Fields),
    Trailer(Fields),
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    Duration(CommonDuration),
    Tls(Whose, TlsFact),
    Metadata(MetadataPath),
    State(StateObject),
    QueryParameter(Box<str>),
    Path(names::PathForm),
    /// `%RESPONSE_CODE_DETAILS%`; with `ALLOW_WHITESPACES` as it is.
    Details {
        whitespace: bool,
    },
    GrpcStatus {
        number: bool,
    },
}

impl Operator {
    pub fn new(name: &str, argument: Option<&str>) -> Result<Self, String> {
        let fields = || Fields::parse(name, argument);
        let time = || TimeFormat::new(argument.unwrap_or_default());
        let required = || argument.filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} needs an argument"));
        Ok(match name {
            "REQ" | "REQUEST_HEADER" => Self::Request(fields()?),
            "REQ_WITHOUT_QUERY" => Self::RequestWithoutQuery(fields()?),
            "RESP" | "RESPONSE_HEADER" => Self::Response(fields()?),
            "TRAILER" | "RESPONSE_TRAILER" => Self::Trailer(fields()?),
            "START_TIME" => Self::StartTime(time()?),
            "EMIT_TIME" => Self::EmitTime(time()?),
            "COMMON_DURATION" => Self::Duration(CommonDuration::parse(argument)?),
            "DYNAMIC_METADATA" | "UPSTREAM_METADATA" | "CLUSTER_METADATA" | "METADATA" => {
                Self::Metadata(MetadataPath::parse(name, required()?)?)
            }
            "FILTER_STATE" => Self::State(StateObject::parse(required()?)?),
            "QUERY_PARAM" => Self::QueryParameter(required()?.into()),
            "PATH" => Self::Path(names::PathForm::parse(argument.unwrap_or_default())?),
            "RESPONSE_CODE_DETAILS" => match argument {
                None => Self::Details { whitespace: false },
                Some("ALLOW_WHITESPACES") => Self::Details { whitespace: true },
                Some(other) => return Err(format!("RESPONSE_CODE_DETAILS does not know {other}")),
            },
            "GRPC_STATUS_NUMBER" => Self::GrpcStatus { number: true },
            "GRPC_STATUS" => match argument {
                None | Some("" | "CAMEL_STRING") => Self::GrpcStatus { number: false },
                Some("NUMBER") => Self::GrpcStatus { number: true },
                Some(other) => return Err(format!("GRPC_STATUS does not know {other}")),
            },
            "LOCAL_REPLY_BODY" => Self::LocalReplyBody,
            "HOSTNAME" => Self::Fixed(names::hostname()),
            "ENVIRONMENT" => Self::Fixed(std::env::var(required()?).ok().map(Arc::from)),
            _ => return Self::plain(name, argument),
        })
    }

    fn plain(name: &str, argument: Option<&str>) -> Result<Self, String> {
        if let Some(fact) = TlsFact::parse(name, argument) {
            return fact.map(|(whose, fact)| Self::Tls(whose, fact));
        }
        let read = simple::find(name).ok_or_else(|| format!("Not supported field in StreamInfo: {name}"))?;
        match argument {
            None | Some("") => Ok(Self::Simple(read)),
            Some(_) => Err(format!("{name} takes no argument")),
        }
    }

    pub fn value<'a>(&'a self, look: &Look<'a>) -> Val<'a> {
        let context = &look.context;
        let info = context.info;
        match self {
            Self::Simple(read) => read(context),
            Self::Fixed(text) => Val::text(text.as_deref()),
            // No body is an empty one, not a missing value.
            Self::LocalReplyBody => Val::Str(look.body),
            Self::Request(fields) => fields.request(context.request),
            Self::RequestWithoutQuery(fields) => fields.without_query(context.request),
            Self::Response(fields) => fields.response(context.response),
            Self::Trailer(fields) => fields.trailers(context.trailers),
            Self::StartTime(format) => Val::Owned(format.render(info.start)),
            Self::EmitTime(format) => Val::Owned(format.render(SystemTime::now())),
            Self::Duration(duration) => Val::number(duration.value(info)),
            Self::Tls(whose, fact) => fact.value(*whose, context),
            Self::Metadata(path) => path.value(context),
            Self::State(object) => object.value(&info.state),
            Self::QueryParameter(name) => {
                Val::text(context.request.and_then(|head| adit_match::first_query_value(head, name)))
            }
            Self::Path(form) => form.value(context.request),
            Self::Details { whitespace } => names::details(info, *whitespace),
            Self::GrpcStatus { number } => names::grpc_status(context, *number),
        }
    }

    pub fn reads_request(&self) -> bool {
        matches!(self, Self::Request(_) | Self::RequestWithoutQuery(_) | Self::QueryParameter(_) | Self::Path(_))
    }

    pub fn request_fields(&self) -> impl Iterator<Item = &HeaderName> {
        let fields = match self {
            Self::Request(fields) | Self::RequestWithoutQuery(fields) => Some(fields),
            _ => None,
        };
        let path = match self {
            Self::Path(form) => form.field(),
            _ => None,
        };
        fields.into_iter().flat_map(Fields::names).chain(path)
    }

    pub fn response_fields(&self) -> impl Iterator<Item = &HeaderName> {
        let fields = match self {
            Self::Response(fields) => Some(fields),
            _ => None,
        };
        let grpc = match self {
            Self::GrpcStatus { .. } => Some(&names::GRPC_STATUS),
            _ => None,
        };
        fields.into_iter().flat_map(Fields::names).chain(grpc)
    }
}
