#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use adit_config::proto::envoy::config::core::v3::{BackoffStrategy, HeaderValue, HeaderValueOption};
use adit_config::proto::envoy::r#type::v3::{Percent, hash_policy};
use adit_io::{Address, ConnInfo, Sharing};
use adit_stats::Store;
use pb::tcp_proxy::WeightedCluster;
use pb::tcp_proxy::weighted_cluster::ClusterWeight;
use prost_types::Duration as ProtoDuration;

use super::*;

struct NoLogs(Scope);

impl Factories for NoLogs {
    fn access_logs(
        &self,
        _messages: &[AccessLogMessage],
        _path: &Path,
    ) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>> {
        Ok(Vec::new())
    }

    fn stats(&self) -> &Scope {
        &self.0
    }
}

fn make(message: &pb::TcpProxy) -> Result<Arc<TcpProxy>, Vec<Diagnostic>> {
    TcpProxy::from_proto(message, &NoLogs(Store::new(0).root()), &Path::from("p"))
}

fn message() -> pb::TcpProxy {
    let cluster_specifier = Some(ClusterSpecifier::Cluster("c".into()));
    pb::TcpProxy { stat_prefix: "t".into(), cluster_specifier, ..Default::default() }
}

fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

fn info() -> StreamInfo {
    let address: std::net::SocketAddr = "10.0.0.1:5".parse().unwrap();
    StreamInfo::new(Arc::new(ConnInfo::new(1, Address::from(address), Address::from(address))))
}

#[test]
fn defaults() {
    let proxy = make(&message()).unwrap();
    let mut info = info();
    assert_eq!(proxy.max_connect_attempts, 1);
    assert_eq!(proxy.idle_timeout(&info), Some(Duration::from_secs(3600)));
    assert_eq!(proxy.max_duration(), None);
    assert_eq!(proxy.early_data(&info), None);
    assert_eq!(proxy.hash(&info), None);
    info.state.set(IDLE_KEY, FilterValue::Text("1500".into()), Sharing::None);
    assert_eq!(proxy.idle_timeout(&info), Some(Duration::from_millis(1500)));
    info.state.set(RECEIVE_EARLY_KEY, FilterValue::Bool(true), Sharing::None);
    assert_eq!(proxy.early_data(&info), Some(DEFAULT_EARLY_DATA));
    let off = make(&pb::TcpProxy { idle_timeout: seconds(0), ..message() }).unwrap();
    assert_eq!(off.idle_timeout(&self::info()), None);
}

#[test]
fn weights_are_kept() {
    let one = |name: &str, weight| ClusterWeight { name: name.into(), weight, metadata_match: None };
    let clusters = vec![one("a", 1), one("b", 3)];
    let specifier = ClusterSpecifier::WeightedClusters(WeightedCluster { clusters });
    let proxy = make(&pb::TcpProxy { cluster_specifier: Some(specifier), ..message() }).unwrap();
    let mut counts: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    for _ in 0..4000 {
        *counts.entry(proxy.cluster(&info())).or_default() += 1;
    }
    assert!((800..1200).contains(&counts["a"]), "{counts:?}");
    assert_eq!(counts["a"] + counts["b"], 4000);
}

#[test]
fn the_source_address_is_hashed_without_its_port() {
    let policy = HashPolicyMessage { policy_specifier: Some(PolicySpecifier::SourceIp(hash_policy::SourceIp {})) };
    let proxy = make(&pb::TcpProxy { hash_policy: vec![policy], ..message() }).unwrap();
    assert_eq!(proxy.hash(&info()), Some(xxh64(b"10.0.0.1", 0)));
}

#[test]
fn the_jitter_only_lengthens() {
    let limited = pb::TcpProxy {
        max_downstream_connection_duration: seconds(10),
        max_downstream_connection_duration_jitter_percentage: Some(Percent { value: 50.0 }),
        ..message()
    };
    let proxy = make(&limited).unwrap();
    let all: Vec<_> = (0..200).map(|_| proxy.max_duration().unwrap().as_secs_f64()).collect();
    assert!(all.iter().all(|seconds| (10.0..=15.0).contains(seconds)), "{all:?}");
    assert!(all.iter().any(|seconds| *seconds > 11.0));
}

#[test]
fn pauses_double_up_to_the_limit() {
    let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_millis(300) };
    for (attempt, ceiling) in [(2, 100), (3, 200), (4, 300), (90, 300), (u32::MAX, 300)] {
        let longest = (0..300).map(|_| backoff.pause(attempt)).max().unwrap();
        let ceiling = Duration::from_millis(ceiling);
        assert!(longest <= ceiling && longest > ceiling / 2, "{attempt}: {longest:?}");
    }
}

#[test]
fn a_head_for_each_kind_of_tunnel() {
    let tunnel = |change: fn(&mut TunnelingConfig)| {
        let mut config = TunnelingConfig { hostname: "%DOWNSTREAM_REMOTE_ADDRESS%".into(), ..Default::default() };
        change(&mut config);
        TunnelPlan::from_proto(&config, &Path::from("t")).unwrap()
    };
    let connect = tunnel(|_| {}).head(&info(), true).unwrap();
    assert_eq!(connect.authority.unwrap().as_str(), "10.0.0.1:5");
    assert_eq!(connect.path, None);
    let post = tunnel(|config| config.use_post = true).head(&info(), false).unwrap();
    assert_eq!((post.path.unwrap().as_str(), post.scheme), ("/", adit_http::Scheme::Http));
    // A missing value is sent as it prints.
    let missing = tunnel(|config| config.hostname = "%FILTER_STATE(no:PLAIN)%:1".into());
    assert_eq!(missing.head(&info(), false).unwrap().authority.unwrap().as_str(), "-:1");
}

#[test]
fn what_is_wrong_is_named() {
    let tunnel = |change: fn(&mut TunnelingConfig)| {
        let mut config = TunnelingConfig { hostname: "h:1".into(), ..Default::default() };
        change(&mut config);
        pb::TcpProxy { tunneling_config: Some(config), ..message() }
    };
    let host = |config: &mut TunnelingConfig| {
        let header = HeaderValue { key: "host".into(), value: "x".into(), ..Default::default() };
        config.headers_to_add = vec![HeaderValueOption { header: Some(header), ..Default::default() }];
    };
    let backoff = BackoffStrategy { base_interval: seconds(2), max_interval: seconds(1) };
    for (message, path) in [
        (pb::TcpProxy { cluster_specifier: None, ..message() }, "p"),
        (pb::TcpProxy { backoff_options: Some(backoff), ..message() }, "p.backoff_options.max_interval"),
        (pb::TcpProxy { metadata_match: Some(Default::default()), ..message() }, "p.metadata_match"),
        (tunnel(|config| config.post_path = "/x".into()), "p.tunneling_config.post_path"),
        (
            tunnel(|config| {
                config.use_post = true;
                config.post_path = "a b".into();
            }),
            "p.tunneling_config.post_path",
        ),
        (tunnel(|config| config.hostname = "%NO_SUCH%".into()), "p.tunneling_config.hostname"),
        (tunnel(host), "p.tunneling_config.headers_to_add[0].header.key"),
        (tunnel(|config| config.request_id_header = "x".into()), "p.tunneling_config.request_id_header"),
    ] {
        let problems = make(&message).err().unwrap();
        assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path]);
    }
}
