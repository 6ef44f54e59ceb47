//! `envoy.filters.http.buffer`: holds a request until all of it is there.

use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::http::buffer::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, Verdict};
use adit_match::ConfigError;

use super::{RouteConfig, settings};

/// The most bytes held; `None` for off.
#[derive(Clone, Copy)]
struct Limit(Option<u64>);

pub(super) struct Factory(Arc<Limit>);

impl Factory {
    pub fn new(message: &pb::Buffer, path: &str) -> Result<Self, ConfigError> {
        limit(message, path).map(|limit| Self(Arc::new(limit)))
    }
}

pub(super) fn route(message: &pb::BufferPerRoute, path: &str) -> Result<RouteConfig, ConfigError> {
    let limit = match &message.r#override {
        Some(pb::buffer_per_route::Override::Disabled(_)) => Limit(None),
        Some(pb::buffer_per_route::Override::Buffer(buffer)) => limit(buffer, &format!("{path}.buffer"))?,
        None => return Err(ConfigError::new(path, "disabled or buffer is required")),
    };
    Ok(Arc::new(limit))
}

fn limit(message: &pb::Buffer, path: &str) -> Result<Limit, ConfigError> {
    match message.max_request_bytes {
        Some(bytes) if bytes > 0 => Ok(Limit(Some(u64::from(bytes)))),
        _ => Err(ConfigError::new(format!("{path}.max_request_bytes"), "must be greater than 0")),
    }
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        let limit = settings(&self.0, per_route).0?;
        Some(Box::new(Buffer(limit)))
    }
}

struct Buffer(u64);

impl HttpFilter for Buffer {
    fn on_request(&mut self, _: &mut HttpStream, end: bool) -> Verdict {
        if end { Verdict::Continue } else { Verdict::Buffer(self.0) }
    }
}
