//! The route that a request finds, among 1, 100 and 1,000.
//!
//! `cargo bench -p adit-router`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::{PerFilterConfig, RouteTable as _, RuntimeValues, StreamInfo};
use adit_http::{RequestHead, RequestKind};
use adit_io::{Address, ConnInfo};
use adit_router::{ConfigError, PerFilterConfigs, RouteConfig, RouteContext};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use pb::route_match::PathSpecifier;

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = find
}
criterion_main!(benches);

const SIZES: [usize; 3] = [1, 100, 1000];

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("route match");
    for size in SIZES {
        let last = size - 1;
        let hosts =
            |domain: fn(usize) -> String| table((0..size).map(|n| host(domain(n), vec![route(prefix("/"))])).collect());
        let exact = hosts(|n| format!("host{n}.example.com"));
        let request = plain(&format!("host{last}.example.com"), "/some/path?q=1");
        measure(&mut group, BenchmarkId::new("virtual hosts, exact", size), &exact, &request);

        let wildcards = hosts(|n| format!("*.host{n}.example.com"));
        let request = plain(&format!("www.host{last}.example.com"), "/some/path?q=1");
        measure(&mut group, BenchmarkId::new("virtual hosts, suffix", size), &wildcards, &request);

        let routes = (0..size).map(|n| route(prefix(&format!("/service{n}/")))).collect();
        let prefixes = table(vec![host("*".into(), routes)]);
        let request = plain("www.example.com", &format!("/service{last}/some/path?q=1"));
        measure(&mut group, BenchmarkId::new("routes, last prefix", size), &prefixes, &request);

        let mut routes: Vec<_> = (0..last).map(|n| route(prefix(&format!("/service{n}/")))).collect();
        routes.push(route(PathSpecifier::ConnectMatcher(pb::route_match::ConnectMatcher::default())));
        let connects = table(vec![host("*".into(), routes)]);
        measure(
            &mut group,
            BenchmarkId::new("routes, last CONNECT", size),
            &connects,
            &connect("target.example.com:443"),
        );
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn measure(group: &mut Group<'_>, id: BenchmarkId, table: &RouteConfig, request: &RequestHead) {
    let address = |text: &str| Address::Ip(text.parse().unwrap());
    let info = StreamInfo::new(Arc::new(ConnInfo::new(1, address("127.0.0.1:8080"), address("127.0.0.1:5000"))));
    assert!(table.find(request, &info, 0).is_some());
    group.bench_function(id, |b| b.iter(|| table.find(black_box(request), &info, 0)));
}

fn plain(host: &str, path: &str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.authority = Some(host.parse().unwrap());
    head.path = Some(path.parse().unwrap());
    head
}

fn connect(target: &str) -> RequestHead {
    let authority: http::uri::Authority = target.parse().unwrap();
    let mut head = RequestHead::new(RequestKind::Connect(authority.clone()), Method::CONNECT);
    head.authority = Some(authority);
    head
}

fn prefix(path: &str) -> PathSpecifier {
    PathSpecifier::Prefix(path.into())
}

fn route(path: PathSpecifier) -> pb::Route {
    pb::Route {
        r#match: Some(pb::RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(pb::route::Action::Route(pb::RouteAction {
            cluster_specifier: Some(pb::route_action::ClusterSpecifier::Cluster("c".into())),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn host(domain: String, routes: Vec<pb::Route>) -> pb::VirtualHost {
    pb::VirtualHost { name: domain.clone(), domains: vec![domain], routes, ..Default::default() }
}

struct NoFilters;

impl PerFilterConfigs for NoFilters {
    fn compile(&self, name: &str, _: &prost_types::Any, _: &str) -> Result<PerFilterConfig, ConfigError> {
        panic!("no filter {name} here")
    }
}

fn table(virtual_hosts: Vec<pb::VirtualHost>) -> Arc<RouteConfig> {
    let message = pb::RouteConfiguration { virtual_hosts, ..Default::default() };
    let context =
        RouteContext { path: "", cluster_exists: &|_| true, filters: &NoFilters, runtime: RuntimeValues::default() };
    RouteConfig::from_proto(&message, &context).unwrap()
}
