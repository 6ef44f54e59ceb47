//! `envoy.filters.http.header_mutation`: changes heads.

use std::sync::Arc;

use adit_access_log::HeaderAdder;
use adit_config::proto::envoy::config::common::mutation_rules::v3 as rules;
use adit_config::proto::envoy::extensions::filters::http::header_mutation::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, StreamInfo, Verdict};
use adit_http::{RequestHead, ResponseHead};
use adit_match::{ConfigError, StringMatcher};
use http::HeaderMap;
use rules::header_mutation::Action;

use super::RouteConfig;
use crate::unpack::refuse;

#[derive(Debug, Default)]
struct Mutations {
    request: Vec<Mutation>,
    response: Vec<Mutation>,
}

#[derive(Debug)]
enum Mutation {
    Change(HeaderAdder),
    RemoveOnMatch(StringMatcher),
}

pub(super) struct Factory(Arc<Mutations>);

impl Factory {
    /// A route's mutations follow those of the filter, so that the most specific win either way.
    pub fn new(message: &pb::HeaderMutation, path: &str) -> Result<Self, ConfigError> {
        mutations(message.mutations.as_ref(), &format!("{path}.mutations")).map(|it| Self(Arc::new(it)))
    }
}

pub(super) fn route(message: &pb::HeaderMutationPerRoute, path: &str) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(mutations(message.mutations.as_ref(), &format!("{path}.mutations"))?))
}

fn mutations(message: Option<&pb::Mutations>, path: &str) -> Result<Mutations, ConfigError> {
    let Some(message) = message else { return Ok(Mutations::default()) };
    refuse(
        path,
        &[
            (!message.query_parameter_mutations.is_empty(), "query_parameter_mutations"),
            (!message.response_trailers_mutations.is_empty(), "response_trailers_mutations"),
            (!message.request_trailers_mutations.is_empty(), "request_trailers_mutations"),
            (!message.formatters.is_empty(), "formatters"),
        ],
    )?;
    Ok(Mutations {
        request: list(&message.request_mutations, &format!("{path}.request_mutations"))?,
        response: list(&message.response_mutations, &format!("{path}.response_mutations"))?,
    })
}

fn list(messages: &[rules::HeaderMutation], path: &str) -> Result<Vec<Mutation>, ConfigError> {
    messages.iter().enumerate().map(|(index, one)| mutation(one, &format!("{path}[{index}]"))).collect()
}

fn mutation(message: &rules::HeaderMutation, path: &str) -> Result<Mutation, ConfigError> {
    Ok(match &message.action {
        None => return Err(ConfigError::new(path, "an action is required")),
        Some(Action::Append(option)) => {
            let one = std::slice::from_ref(option);
            let adder = HeaderAdder::from_proto(one, "", &[], "");
            Mutation::Change(adder.map_err(|error| relocate(error, &format!("{path}.append")))?)
        }
        Some(Action::Remove(name)) => {
            let one = std::slice::from_ref(name);
            let adder = HeaderAdder::from_proto(&[], "", one, "");
            Mutation::Change(adder.map_err(|error| relocate(error, &format!("{path}.remove")))?)
        }
        Some(Action::RemoveOnMatch(remove)) => {
            let path = format!("{path}.remove_on_match.key_matcher");
            let matcher = remove.key_matcher.as_ref().ok_or_else(|| ConfigError::missing(&*path))?;
            Mutation::RemoveOnMatch(StringMatcher::from_proto(matcher, &path)?)
        }
    })
}

/// An error in a list of one, as an error of its one element.
fn relocate(error: ConfigError, path: &str) -> ConfigError {
    ConfigError::new(format!("{path}{}", error.path.trim_start_matches("[0]")), error.message)
}

fn remove_matching(headers: &mut HeaderMap, matcher: &StringMatcher) {
    let found: Vec<_> = headers.keys().filter(|name| matcher.matches(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        let route = per_route.and_then(|config| config.clone().downcast().ok());
        Some(Box::new(Filter { layers: [Some(self.0.clone()), route], request: None }))
    }
}

struct Filter {
    layers: [Option<Arc<Mutations>>; 2],
    /// Kept only if a mutation of the response reads it.
    request: Option<Box<RequestHead>>,
}

impl Filter {
    fn layers(&self) -> impl Iterator<Item = &Mutations> {
        self.layers.iter().flatten().map(|layer| &**layer)
    }
}

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _: bool) -> Verdict {
        for mutation in self.layers().flat_map(|layer| &layer.request) {
            match mutation {
                Mutation::Change(adder) => adder.apply_request(&mut stream.request, &stream.info),
                Mutation::RemoveOnMatch(matcher) => remove_matching(&mut stream.request.headers, matcher),
            }
        }
        let reads = |mutation: &Mutation| matches!(mutation, Mutation::Change(adder) if adder.reads_request());
        if self.layers().flat_map(|layer| &layer.response).any(reads) {
            self.request = Some(Box::new(stream.request.clone()));
        }
        Verdict::Continue
    }

    fn on_response(&mut self, head: &mut ResponseHead, info: &mut StreamInfo) {
        let request = self.request.take();
        for mutation in self.layers().flat_map(|layer| &layer.response) {
            match mutation {
                Mutation::Change(adder) => adder.apply_response(head, request.as_deref(), info),
                Mutation::RemoveOnMatch(matcher) => remove_matching(&mut head.headers, matcher),
            }
        }
    }
}
