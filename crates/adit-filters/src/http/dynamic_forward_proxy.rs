//! `envoy.filters.http.dynamic_forward_proxy`: finds the address of the host that a request names, for clusters of that type.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use adit_config::proto::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as pb;
use adit_filter::upstream::Unresolved;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, LocalReply, ResponseFlag, Verdict, Waiting};
use adit_http::RequestKind;
use adit_io::{Address, FilterValue, Sharing};
use adit_match::ConfigError;
use http::StatusCode;

use super::RouteConfig;

/// Where the cluster looks for the address.
const STATE_KEY: &str = "envoy.network.transport_socket.original_dst_address";

pub(super) struct Factory;

impl Factory {
    pub fn new(message: &pb::FilterConfig, path: &str) -> Result<Self, ConfigError> {
        use pb::filter_config::ImplementationSpecifier as By;
        match &message.implementation_specifier {
            // Names are kept by the cluster, with its own settings of the cache.
            Some(By::DnsCacheConfig(_)) => Ok(Self),
            Some(By::SubClusterConfig(_)) => Err(ConfigError::unsupported(format!("{path}.sub_cluster_config"))),
            None => Err(ConfigError::new(format!("{path}.dns_cache_config"), "value is required")),
        }
    }
}

impl HttpFilterFactory for Factory {
    fn create(&self, _per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        Some(Box::<Filter>::default())
    }
}

type Found = Result<SocketAddr, Unresolved>;

#[derive(Default)]
struct Filter(Arc<Mutex<Option<Found>>>);

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _end: bool) -> Verdict {
        // Nothing but what is found here may name the host.
        let name = stream.route.as_ref().and_then(|route| route.cluster(&stream.request));
        let Some(cluster) = name.and_then(|name| stream.worker.clusters.get(name)) else { return Verdict::Continue };
        let Some(resolver) = cluster.settings().resolver.clone() else { return Verdict::Continue };
        let Some(authority) = &stream.request.authority else { return Verdict::Continue };
        let tunnel = matches!(stream.request.kind, RequestKind::Connect(_));
        let default = if tunnel || cluster.settings().secure { 443 } else { 80 };
        let question = resolver.resolve(authority.host(), authority.port_u16().unwrap_or(default));
        let found = self.0.clone();
        Verdict::Wait(Waiting(Box::pin(async move {
            let answer = question.await;
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        })))
    }

    fn after_delay(&mut self, stream: &mut HttpStream) -> Verdict {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (text, details) = match found {
            Some(Ok(address)) => {
                stream.info.state.set(STATE_KEY, FilterValue::Address(Address::Ip(address)), Sharing::None);
                return Verdict::Continue;
            }
            Some(Err(Unresolved::CacheOverflow)) => ("DNS cache overflow", "dns_cache_overflow"),
            Some(Err(Unresolved::PendingOverflow)) => {
                ("Dynamic forward proxy pending request overflow", "dynamic_forward_proxy_pending_request_overflow")
            }
            Some(Err(Unresolved::Failed)) | None => ("DNS resolution failure", "dns_resolution_failure"),
        };
        let reply = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, details).body(text);
        Verdict::Reply(reply.flag(ResponseFlag::DnsResolutionFailed))
    }
}
