//! Pools of transport sockets that put a client's state into the connection, and internal listeners.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use adit_config::Path;
use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_filter::BoxFuture;
use adit_filter::upstream::{Clusters, FailureKind};
use adit_internal::{DEFAULT_MAX_HOPS, InternalListeners, Limits};
use adit_io::{Address, ConnInfo, FilterState, FilterValue, Io, Metadata, Sharing};
use adit_stats::Store;
use adit_upstream::transport::{BuiltTransport, TransportSite, shared_state_key};
use adit_upstream::{
    ClusterManager, ClusterPlan, Codecs, PlanEnv, TransportBuilder, TransportContext, TransportError,
    TransportSocketFactory, WorkerDeps,
};
use support::{TokioSpawn, Wish, World, cluster, exchange, expect_accepted, expect_value, ok, origin, soon, until};

/// Passes filter state on, as `internal_upstream` does.
struct Passing;

impl TransportSocketFactory for Passing {
    fn connect<'a>(&'a self, io: Io, _ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        Box::pin(async move { Ok(io) })
    }

    fn secure(&self) -> bool {
        false
    }

    fn passes_on(&self, ctx: &TransportContext) -> (FilterState, Metadata) {
        (ctx.state.shared_with_upstream(), Metadata::default())
    }

    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        shared_state_key(&ctx.state)
    }
}

/// Fails, and tells by which name the server would be asked and which its certificate would have to be for.
struct Telling;

impl TransportSocketFactory for Telling {
    fn connect<'a>(&'a self, _io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        let name = |name: &Option<Box<str>>| name.as_deref().unwrap_or("-").to_owned();
        let told = TransportError::remote(format_args!("{} {}", name(&ctx.auto_sni), name(&ctx.verify_name)));
        Box::pin(async move { Err(told) })
    }

    fn secure(&self) -> bool {
        true
    }
}

struct Builder;

impl TransportBuilder for Builder {
    fn build(
        &self,
        _any: &prost_types::Any,
        _path: &Path,
        site: &TransportSite<'_>,
        _inner: &dyn Fn(Option<&TransportSocket>, &Path) -> BuiltTransport,
    ) -> Option<BuiltTransport> {
        Some(Ok(if site.cluster == "telling" { Arc::new(Telling) } else { Arc::new(Passing) }))
    }
}

const SOCKET: &str = "transport_socket: { name: x, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport, transport_socket: { name: envoy.transport_sockets.raw_buffer } } }";

fn world(yaml: &str, internal: InternalListeners) -> World {
    let store = Store::new(1);
    let indented: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "bootstrap_extensions: [{{ name: i, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener }} }}]\nstatic_resources:\n  clusters:\n{indented}"
    );
    let loaded = adit_config::load(&[adit_config::Source::new("a.yaml", &text)], &adit_config::LoadOptions::default());
    let clusters = loaded.unwrap().bootstrap.static_resources.unwrap().clusters;
    let env = PlanEnv { scope: &store.root(), transports: &Builder, bind: None };
    let plans: Vec<_> = clusters.iter().map(|c| ClusterPlan::from_proto(c, &Path::root(), &env).unwrap()).collect();
    let manager = ClusterManager::new(plans);
    let deps = WorkerDeps { spawn: Arc::new(TokioSpawn), internal: Arc::new(internal), codecs: Arc::new(Codecs) };
    let set = manager.worker(Arc::new(deps));
    World { store, manager, set }
}

fn listeners() -> InternalListeners {
    InternalListeners::new(Limits::default(), DEFAULT_MAX_HOPS)
}

fn wish(value: Option<FilterValue>, sharing: Sharing) -> Wish {
    let mut wish = Wish::default();
    if let Some(value) = value {
        wish.state.set("client", value, sharing);
    }
    wish
}

#[tokio::test]
async fn a_connection_with_state_serves_only_equal_state() {
    let origin = origin(ok).await;
    let world = world(&cluster("a", &[origin.port], SOCKET), listeners());
    let a = world.cluster("a");
    let text = |text: &str| Some(FilterValue::Text(text.into()));
    let any = || Some(FilterValue::Any(Arc::new(1_u8)));
    for (value, sharing, connection) in [
        (text("one"), Sharing::Once, "0"),
        (text("two"), Sharing::Once, "1"),
        (text("one"), Sharing::Once, "0"),
        (text("one"), Sharing::Transitive, "2"),
        (None, Sharing::None, "3"),
        // What stays here does not go into the connection.
        (text("one"), Sharing::None, "3"),
        (any(), Sharing::Once, "4"),
        (any(), Sharing::Once, "5"),
    ] {
        let wish = wish(value, sharing);
        let upstream = soon(a.http(&wish.need())).await.ok().unwrap();
        assert_eq!(String::from_utf8(soon(exchange(upstream, "/")).await.1).unwrap(), connection);
    }
}

#[tokio::test]
async fn pools_beyond_the_limit_take_the_place_of_idle_ones() {
    let origin = origin(ok).await;
    let more = format!("circuit_breakers: {{ thresholds: [{{ max_connections: 3 }}] }}\n{SOCKET}");
    let world = world(&cluster("a", &[origin.port], &more), listeners());
    let a = world.cluster("a");
    for client in 0..20 {
        let wish = wish(Some(FilterValue::Number(client)), Sharing::Once);
        let upstream = soon(a.http(&wish.need())).await.ok().unwrap();
        soon(exchange(upstream, "/")).await;
        assert!(world.gauge("cluster.a.upstream_cx_active") <= 3);
    }
    expect_accepted(&origin.accepted, 20).await;
}

#[tokio::test]
async fn a_pool_of_a_full_host_takes_the_place_of_one_of_the_same_host() {
    let origins = [origin(ok).await, origin(ok).await];
    let more = format!("circuit_breakers: {{ per_host_thresholds: [{{ max_connections: 1 }}] }}\n{SOCKET}");
    let world = world(&cluster("a", &origins.each_ref().map(|origin| origin.port), &more), listeners());
    let a = world.cluster("a");
    // The other host's connection has idled longest.
    for (client, host) in [(1, 0), (1, 1), (2, 1), (1, 0)] {
        let mut wish = wish(Some(FilterValue::Number(client)), Sharing::Once);
        wish.tried = vec![Address::Ip(([127, 0, 0, 1], origins[1 - host].port).into())];
        wish.reselect = 5;
        let upstream = soon(a.http(&wish.need())).await.ok().unwrap();
        assert_eq!(upstream.host.info().address.socket().unwrap().port(), origins[host].port);
        soon(exchange(upstream, "/")).await;
    }
    expect_value("accepted", [1, 2], || origins.each_ref().map(|origin| origin.accepted.load(SeqCst))).await;
    until("one connection each", || world.manager.describe()[0].hosts.iter().all(|host| host.cx_active == 1)).await;
}

const INTERNAL: &str = "- name: a
  load_assignment:
    cluster_name: a
    endpoints:
    - lb_endpoints:
      - endpoint: { address: { envoy_internal_address: { server_listener_name: inner, endpoint_id: x } } }
";

#[tokio::test]
async fn an_internal_listener_is_an_upstream() {
    let registry = listeners();
    let mut inner = registry.listen("inner", 8).unwrap();
    let world = world(&format!("{INTERNAL}  {SOCKET}\n"), registry);
    let a = world.cluster("a");
    let wish = wish(Some(FilterValue::Text("me".into())), Sharing::Once);
    let upstream = soon(a.tcp(&wish.need())).await.ok().unwrap();
    let accepted = soon(inner.accept()).await;
    assert_eq!(accepted.state.text("client"), Some("me"));
    assert_eq!(upstream.host.info().address.to_string(), "envoy://inner/x");
    assert_eq!(accepted.info.internal_hops, 1);
}

#[tokio::test]
async fn a_listener_that_is_not_there_and_a_loop_fail_cleanly() {
    let registry = listeners();
    let world = world(INTERNAL, registry.clone());
    let a = world.set.get("a").unwrap();
    let missing = soon(a.tcp(&Wish::default().need())).await.err().unwrap();
    assert_eq!(missing.kind, FailureKind::Remote);
    assert_eq!(missing.reason, "no internal listener named inner");
    let _inner = registry.listen("inner", 8).unwrap();
    let mut info = ConnInfo::new(1, Address::internal_client(), Address::internal_client());
    info.internal_hops = DEFAULT_MAX_HOPS;
    let wish = Wish { downstream: Some(Arc::new(info)), ..Wish::default() };
    assert_eq!(soon(a.tcp(&wish.need())).await.err().unwrap().kind, FailureKind::Loop);
    until("given back", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
}

/// Of HTTP/1 towards the upstream.
fn options(more: &str) -> String {
    format!(
        "{SOCKET}\ntyped_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{ http_protocol_options: {{}} }}, upstream_http_protocol_options: {{ {more} }} }} }}"
    )
}

#[tokio::test]
async fn names_that_tls_took_before_stay() {
    let origin = origin(ok).await;
    for (more, names) in [
        (options("auto_sni: true, auto_san_validation: true"), Some("a.test a.test")),
        (options("auto_sni: true"), Some("a.test -")),
        (options("auto_san_validation: true"), Some("- a.test")),
        (format!("{SOCKET}\n"), None),
    ] {
        let world = world(&cluster("telling", &[origin.port], &more), listeners());
        let mut head = support::get("/");
        head.authority = Some("a.test:443".parse().unwrap());
        let cluster = world.cluster("telling");
        let taken = cluster.tls_names(&head).map(|names| *names);
        assert_eq!(taken.is_some(), names.is_some(), "{more}");
        head.authority = Some("b.test".parse().unwrap());
        let wish = Wish { head: Some(head), tls_names: taken, ..Wish::default() };
        let told = soon(cluster.http(&wish.need())).await.err().unwrap();
        assert_eq!(told.reason, names.unwrap_or("- -"), "{more}");
    }
}

#[tokio::test]
async fn filter_state_chooses_the_server_name_but_not_whose_certificate_will_do() {
    let origin = origin(ok).await;
    let both = "auto_sni: true, auto_san_validation: true";
    let by_header = "auto_sni: true, auto_san_validation: true, override_auto_sni_header: x-name";
    for (more, state, authority, header, expected) in [
        (both, None, "a.test:443", None, "a.test a.test"),
        (both, Some("evil.test"), "a.test:443", None, "evil.test a.test"),
        (both, None, "127.0.0.1:443", None, "- 127.0.0.1"),
        (both, Some("evil.test"), "[::1]:443", None, "evil.test ::1"),
        (by_header, Some("evil.test"), "a.test", Some("b.test"), "evil.test b.test"),
        (by_header, None, "a.test", None, "a.test a.test"),
        (by_header, None, "a.test", Some("b.test/"), "- b.test/"),
        ("auto_san_validation: true", Some("evil.test"), "a.test", None, "evil.test a.test"),
        ("auto_sni: true", Some("evil.test"), "a.test", None, "evil.test -"),
    ] {
        let world = world(&cluster("telling", &[origin.port], &options(more)), listeners());
        let mut head = support::get("/");
        head.authority = Some(authority.parse().unwrap());
        if let Some(value) = header {
            head.headers.insert("x-name", value.parse().unwrap());
        }
        let mut wish = Wish { head: Some(head), ..Wish::default() };
        if let Some(name) = state {
            wish.state.set("envoy.network.upstream_server_name", FilterValue::Text(name.into()), Sharing::None);
        }
        let told = soon(world.cluster("telling").http(&wish.need())).await.err().unwrap();
        assert_eq!(told.reason, expected, "{more} {state:?}");
    }
}
