//! `envoy.filters.http.set_filter_state`.

use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::http::set_filter_state::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, LogContext, Verdict};
use adit_match::ConfigError;

use super::RouteConfig;
use crate::filter_state::StateValue;
use crate::unpack::refuse;

struct Values(Vec<StateValue>);

pub(super) struct Factory(Arc<Values>);

impl Factory {
    pub fn new(message: &pb::Config, path: &str) -> Result<Self, ConfigError> {
        values(message, path).map(|values| Self(Arc::new(values)))
    }
}

pub(super) fn route(message: &pb::Config, path: &str) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(values(message, path)?))
}

fn values(message: &pb::Config, path: &str) -> Result<Values, ConfigError> {
    refuse(path, &[(message.clear_route_cache, "clear_route_cache")])?;
    StateValue::list(&message.on_request_headers, &format!("{path}.on_request_headers")).map(Values)
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        let route = per_route.and_then(|config| config.clone().downcast().ok());
        Some(Box::new(Filter([Some(self.0.clone()), route])))
    }
}

/// The filter's own values, then the route's.
struct Filter([Option<Arc<Values>>; 2]);

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _: bool) -> Verdict {
        for value in self.0.iter().flatten().flat_map(|values| &values.0) {
            let context = LogContext { request: Some(&stream.request), ..LogContext::new(&stream.info) };
            if let Some(object) = value.evaluate(&context) {
                value.set(object, &mut stream.info.state);
            }
        }
        Verdict::Continue
    }
}
