//! `%DYNAMIC_METADATA(a:b:c)%`, `%FILTER_STATE(key:PLAIN)%`.

use adit_filter::LogContext;
use adit_io::{FilterState, FilterValue, Metadata};

use super::Val;

/// Whose metadata, and the path into it.
#[derive(Debug, Clone)]
pub(super) struct MetadataPath {
    source: Source,
    namespace: Box<str>,
    steps: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Dynamic,
    Host,
    Cluster,
}

impl MetadataPath {
    /// `namespace:step:step`; for `METADATA` a kind comes first (`DYNAMIC`, `UPSTREAM_HOST`, `CLUSTER`).
    pub fn parse(operator: &str, argument: &str) -> Result<Self, String> {
        let (source, argument) = match operator {
            "DYNAMIC_METADATA" => (Source::Dynamic, argument),
            "UPSTREAM_METADATA" => (Source::Host, argument),
            "CLUSTER_METADATA" => (Source::Cluster, argument),
            _ => match argument.split_once(':') {
                Some(("DYNAMIC", rest)) => (Source::Dynamic, rest),
                Some(("UPSTREAM_HOST", rest)) => (Source::Host, rest),
                Some(("CLUSTER", rest)) => (Source::Cluster, rest),
                _ => return Err(format!("METADATA does not know {argument}")),
            },
        };
        let mut parts = argument.split(':');
        let namespace = parts.next().unwrap_or_default().into();
        Ok(Self { source, namespace, steps: parts.map(Box::from).collect() })
    }

    pub fn value<'a>(&self, context: &LogContext<'a>) -> Val<'a> {
        let info = context.info;
        let upstream = info.upstream.as_ref();
        let metadata: Option<&'a Metadata> = match self.source {
            Source::Dynamic => Some(&info.metadata),
            Source::Host => upstream.and_then(|upstream| upstream.host.as_ref()).map(|host| &host.info().metadata),
            Source::Cluster => upstream.map(|upstream| &upstream.cluster_metadata),
        };
        let value = metadata.and_then(|metadata| metadata.get(&self.namespace));
        value.and_then(|value| value.walk(self.steps.iter().map(|step| &**step))).map_or(Val::Missing, Val::Metadata)
    }
}

/// A filter-state object and its form.
#[derive(Debug, Clone)]
pub(super) struct StateObject {
    key: Box<str>,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Plain,
    Typed,
    /// One field of an object that has fields.
    Field(Box<str>),
}

impl StateObject {
    /// `key`, `key:PLAIN`, `key:TYPED`, `key:FIELD:name`.
    pub fn parse(argument: &str) -> Result<Self, String> {
        let (key, form) = match argument.split_once(':') {
            None | Some((_, "TYPED")) => (argument.split(':').next().unwrap_or_default(), Form::Typed),
            Some((key, "PLAIN")) => (key, Form::Plain),
            Some((key, form)) => match form.strip_prefix("FIELD:").filter(|name| !name.is_empty()) {
                Some(name) => (key, Form::Field(name.into())),
                None => {
                    return Err(format!("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD: {form}"));
                }
            },
        };
        if key.is_empty() {
            return Err("Invalid filter state configuration, key cannot be empty.".into());
        }
        Ok(Self { key: key.into(), form })
    }

    pub fn value<'a>(&self, state: &'a FilterState) -> Val<'a> {
        let Some(object) = state.get(&self.key) else { return Val::Missing };
        match (&self.form, &object.value) {
            (Form::Plain, FilterValue::Text(text)) => Val::Str(text),
            (Form::Plain, FilterValue::Address(address)) => Val::Address(address),
            (Form::Plain, value) => Val::owned(value.to_plain()),
            (Form::Typed, value) => Val::Typed(value),
            (Form::Field(name), FilterValue::Headers(headers)) => {
                Val::text(headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value))
            }
            (Form::Field(_), _) => Val::Missing,
        }
    }
}
