//! `envoy.filters.http.header_mutation`: changes heads.

use std::sync::Arc;

use adit_access_log::HeaderMutations;
use adit_config::proto::envoy::extensions::filters::http::header_mutation::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, StreamInfo, Verdict};
use adit_http::{RequestHead, ResponseHead};
use adit_match::ConfigError;

use super::RouteConfig;
use crate::unpack::refuse;

#[derive(Debug, Default)]
struct Mutations {
    request: HeaderMutations,
    response: HeaderMutations,
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
        request: HeaderMutations::from_proto(&message.request_mutations, &format!("{path}.request_mutations"))?,
        response: HeaderMutations::from_proto(&message.response_mutations, &format!("{path}.response_mutations"))?,
    })
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
        for layer in self.layers() {
            layer.request.apply_request(&mut stream.request, &stream.info);
        }
        if self.layers().any(|layer| layer.response.reads_request()) {
            self.request = Some(Box::new(stream.request.clone()));
        }
        Verdict::Continue
    }

    fn on_response(&mut self, head: &mut ResponseHead, info: &mut StreamInfo) {
        let request = self.request.take();
        for layer in self.layers() {
            layer.response.apply_response(head, request.as_deref(), info);
        }
    }
}
