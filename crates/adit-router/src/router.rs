//! The terminal HTTP filter (`envoy.extensions.filters.http.router.v3.Router`).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use adit_config::proto::envoy::extensions::filters::http::router::v3 as pb;
use adit_filter::{BoxFuture, HttpStream, HttpTerminal, LocalReply, LogContext, Route, StandingTunnel, boxed};
use adit_http::{RequestKind, ResponseHead};
use adit_match::ConfigError;
use adit_stats::{Counter, Scope};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use tokio::time::Instant;

use crate::exchange::{Exchange, cluster_of, mutate_reply, mutate_response, name_route};
use crate::reply;
use crate::table::RouteEntry;
use crate::table::rewrite::Redirect;
use crate::table::route::{Action, DirectResponse, Forward};
use crate::tunnel::Driver;

/// Set to 1 by who took the request in early data (RFC 8470 section 5.1).
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// What is configured of a router.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RouterOptions {
    pub(crate) suppress_envoy_headers: bool,
    /// A timeout that the last hop announced is ours too.
    pub(crate) respect_expected_timeout: bool,
    pub(crate) reject_early_data: bool,
}

/// Takes each request to the cluster of its route, and the answer back.
pub struct Router {
    options: RouterOptions,
    stats: RouterStats,
    /// The scope without a prefix.
    root: Scope,
}

/// `http.<stat_prefix>.`
struct RouterStats {
    no_cluster: Counter,
    no_route: Counter,
    rq_direct_response: Counter,
    rq_total: Counter,
    rq_reset_after_downstream_response_started: Counter,
}

impl RouterStats {
    fn new(scope: &Scope) -> Self {
        // There are no internal redirects, and no overload manager; nothing counts these in Envoy either.
        for name in [
            "rq_redirect",
            "rq_overload_local_reply",
            "passthrough_internal_redirect_bad_location",
            "passthrough_internal_redirect_no_route",
            "passthrough_internal_redirect_predicate",
            "passthrough_internal_redirect_too_many_redirects",
            "passthrough_internal_redirect_unsafe_scheme",
        ] {
            let _ = scope.counter(name);
        }
        Self {
            no_cluster: scope.counter("no_cluster"),
            no_route: scope.counter("no_route"),
            rq_direct_response: scope.counter("rq_direct_response"),
            rq_total: scope.counter("rq_total"),
            rq_reset_after_downstream_response_started: scope.counter("rq_reset_after_downstream_response_started"),
        }
    }
}

impl Router {
    /// From its message; `scope` is the connection manager's, `http.<stat_prefix>.`, and `at` the path of the message.
    pub fn from_proto(message: &pb::Router, scope: &Scope, at: &str) -> Result<Arc<Self>, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for (set, field) in [
            (!message.upstream_log.is_empty(), "upstream_log"),
            (message.upstream_log_options.is_some(), "upstream_log_options"),
            (!message.strict_check_headers.is_empty(), "strict_check_headers"),
            (message.dynamic_stats.is_some(), "dynamic_stats"),
            (message.suppress_grpc_request_failure_code_stats, "suppress_grpc_request_failure_code_stats"),
            (!message.upstream_http_filters.is_empty(), "upstream_http_filters"),
        ] {
            if set {
                errors.push(ConfigError::unsupported(format!("{at}.{field}")));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let options = RouterOptions {
            suppress_envoy_headers: message.suppress_envoy_headers,
            respect_expected_timeout: message.respect_expected_rq_timeout,
            reject_early_data: message.reject_connect_request_early_data.unwrap_or(false),
        };
        Ok(Arc::new(Self { options, stats: RouterStats::new(scope), root: scope.store().root() }))
    }

    /// A plain request, which is most of them, on the way to its cluster.
    async fn plain(&self, route: Arc<dyn Route>, stream: &mut HttpStream) -> Option<Box<dyn StandingTunnel>> {
        let entry = entry(&*route)?;
        let Action::Forward(forward) = &entry.action else { return None };
        let Some(cluster) = cluster_of(forward, stream) else {
            Box::pin(self.no_cluster(entry, forward, stream)).await;
            return None;
        };
        if stream.info.protocol < Some(http::Version::HTTP_2) {
            // Streams of a shared connection are in one task, and their messages leave together.
            behind_what_is_ready().await;
            stream.now = Instant::now();
        }
        let mut exchange = Exchange::new(&self.options, entry, forward, cluster, stream);
        exchange.run_plain(stream).await;
        // Over HTTP/1 an upstream has no reset but the end of its connection.
        let upstream = stream.info.upstream.as_ref().and_then(|upstream| upstream.protocol);
        if stream.answered()
            && upstream >= Some(http::Version::HTTP_2)
            && stream.info.details.as_deref().is_some_and(|text| text.starts_with("upstream_reset_after"))
        {
            self.stats.rq_reset_after_downstream_response_started.inc();
        }
        None
    }

    /// A request for a tunnel.
    async fn tunnel(&self, route: Arc<dyn Route>, stream: &mut HttpStream) -> Option<Box<dyn StandingTunnel>> {
        let entry = entry(&*route)?;
        let Action::Forward(forward) = &entry.action else { return None };
        let terminates = forward.common.terminates(&stream.request);
        let early = stream.request.headers.get_all(EARLY_DATA).iter().any(|value| value.as_bytes() == b"1");
        let Some(cluster) = cluster_of(forward, stream) else {
            Box::pin(self.no_cluster(entry, forward, stream)).await;
            return None;
        };
        let mut exchange = Exchange::new(&self.options, entry, forward, cluster, stream);
        let connects = matches!(stream.request.kind, RequestKind::Connect(_));
        let raw = terminates.is_some() || (connects && exchange.cluster.settings().terminates_connect);
        if early {
            let mut reply = reply::too_early();
            mutate_reply(entry, stream, &mut reply);
            let _ = Box::pin(stream.reply(reply)).await;
            return None;
        }
        if forward.common.terminates_udp(&stream.request) {
            // Larger than a stream: on its own, so that streams do not pay for it.
            let session = Box::pin(exchange.establish_udp(stream, &self.root)).await?;
            Box::pin(session.run(stream)).await;
            return None;
        }
        let mut driver = Driver::new(&mut exchange, stream, raw, terminates);
        let tunnel = driver.run(stream).await;
        if tunnel.is_none() {
            // Nobody reads what the client still sends.
            stream.recv = None;
        }
        tunnel
    }

    async fn no_cluster(&self, entry: &RouteEntry, forward: &Forward, stream: &mut HttpStream) {
        self.stats.no_cluster.inc();
        let mut reply = reply::no_cluster(forward.common.not_found);
        mutate_reply(entry, stream, &mut reply);
        // Nobody to tell if the client left.
        let _ = stream.reply(reply).await;
    }

    /// A request that is answered here.
    async fn local(&self, route: Option<Arc<dyn Route>>, stream: &mut HttpStream) -> Option<Box<dyn StandingTunnel>> {
        let Some(entry) = route.as_deref().and_then(entry) else {
            self.stats.no_route.inc();
            let _ = stream.reply(reply::no_route()).await;
            return None;
        };
        match &entry.action {
            Action::Redirect(redirect) => self.redirect(entry, redirect, stream).await,
            Action::Direct(direct) => self.direct(entry, direct, stream).await,
            Action::Forward(_) => {}
        }
        None
    }

    async fn redirect(&self, entry: &RouteEntry, redirect: &Redirect, stream: &mut HttpStream) {
        // Envoy counts a redirect as what it is there, a direct response; `rq_redirect` stays 0.
        self.stats.rq_direct_response.inc();
        let mut reply = LocalReply::new(redirect.status, "direct_response");
        if let Some(location) = redirect.location(&stream.request, &entry.path) {
            reply.headers.insert(header::LOCATION, location);
        }
        mutate_reply(entry, stream, &mut reply);
        let _ = stream.reply(reply).await;
    }

    async fn direct(&self, entry: &RouteEntry, direct: &DirectResponse, stream: &mut HttpStream) {
        self.stats.rq_direct_response.inc();
        if direct.status.is_success() && matches!(stream.request.kind, RequestKind::Connect(_)) {
            return direct_tunnel(entry, direct, stream).await;
        }
        let mut body = String::from_utf8_lossy(&direct.body).into_owned();
        let mut reply = LocalReply::new(direct.status, "direct_response");
        if let Some(format) = &direct.format {
            let context = LogContext { request: Some(&stream.request), ..LogContext::new(&stream.info) };
            let mut formatted = String::new();
            format.render_reply(&context, &body, &mut formatted);
            body = formatted;
            if let Ok(value) = HeaderValue::from_str(format.content_type()) {
                reply.headers.insert(header::CONTENT_TYPE, value);
            }
        }
        let mut reply = reply.body(body);
        mutate_reply(entry, stream, &mut reply);
        let _ = stream.reply(reply).await;
    }
}

/// A 2xx to a CONNECT opens a tunnel and has no content-length (RFC 9110 section 9.3.6): one that carries the body and ends.
async fn direct_tunnel(entry: &RouteEntry, direct: &DirectResponse, stream: &mut HttpStream) {
    let mut head = ResponseHead::new(direct.status);
    mutate_response(entry, stream, &mut head);
    stream.info.details = Some("direct_response".into());
    let mut body: Bytes = direct.body.clone();
    let Ok(mut sink) = stream.respond(head, false, Instant::now()) else { return };
    // A client that is gone cannot be told.
    let _ = stream.send_whole(&mut *sink, &mut body).await;
}

fn entry(route: &dyn Route) -> Option<&RouteEntry> {
    route.as_any().downcast_ref()
}

impl HttpTerminal for Router {
    /// Each kind of request has a future of its own, no larger than it needs.
    fn serve<'a>(&'a self, stream: &'a mut HttpStream) -> BoxFuture<'a, Option<Box<dyn StandingTunnel>>> {
        if stream.info.timing.request_received.is_none() && stream.recv.as_ref().is_some_and(|recv| recv.is_end()) {
            stream.info.timing.request_received = Some(stream.info.elapsed_at(stream.now));
        }
        self.stats.rq_total.inc();
        let Some(route) = stream.route.clone() else { return Box::pin(self.local(None, stream)) };
        let Some(entry) = entry(&*route) else { return Box::pin(self.local(None, stream)) };
        name_route(entry, stream);
        match &entry.action {
            Action::Forward(forward) => {
                if stream.request.kind.is_tunnel() || forward.common.terminates(&stream.request).is_some() {
                    boxed(|| self.tunnel(route, stream))
                } else {
                    boxed(|| self.plain(route, stream))
                }
            }
            Action::Redirect(_) | Action::Direct(_) => Box::pin(self.local(Some(route), stream)),
        }
    }
}

/// Lets what else is ready in this turn of the worker go first, so that answers leave one behind the other and then requests do. A
/// peer that gets several messages at once sleeps less often, and to wake one that sleeps is much of what a small write costs.
async fn behind_what_is_ready() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        // To the end of the worker's queue, not behind its next look at the sockets as `yield_now` would.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::behind_what_is_ready;

    #[tokio::test]
    async fn what_is_ready_goes_first_and_nothing_else() {
        let (tell, told) = mpsc::channel();
        let behind = tell.clone();
        let first = tokio::spawn(async move {
            behind_what_is_ready().await;
            behind.send("behind").unwrap();
        });
        let ready = tell.clone();
        let second = tokio::spawn(async move { ready.send("ready").unwrap() });
        // Comes back behind the worker's next look at its sockets.
        let third = tokio::spawn(async move {
            tokio::task::yield_now().await;
            tell.send("next turn").unwrap();
        });
        for task in [first, second, third] {
            task.await.unwrap();
        }
        assert_eq!(told.iter().collect::<Vec<_>>(), ["ready", "behind", "next turn"]);
    }
}
