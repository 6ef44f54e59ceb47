//! CONNECT-UDP terminated: what is refused, and tries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use adit_config::proto::envoy::config::core::v3::ProxyProtocolConfig;
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_http::RequestHead;
use http::Version;
use pb::route_action::UpgradeConfig;
use pb::route_action::upgrade_config::ConnectConfig;
use support::*;

fn terminating(config: ConnectConfig) -> pb::RouteConfiguration {
    route_all(|action| {
        action.upgrade_configs =
            vec![UpgradeConfig { upgrade_type: "connect-udp".into(), enabled: None, connect_config: Some(config) }];
    })
}

fn head() -> RequestHead {
    let mut head = upgrade("connect-udp");
    head.version = Version::HTTP_2;
    head
}

#[tokio::test]
async fn a_stream_that_ended_with_its_head_is_refused() {
    let cluster = FakeCluster::new("c", vec![]);
    let mut case = Case::new(&terminating(ConnectConfig::default()), cluster, head(), Half::empty());
    case.run().await;
    assert_eq!(case.client.status(), Some(400));
    assert_eq!(case.details(), "connect_udp_ended_with_its_head");
}

#[tokio::test]
async fn a_cluster_without_a_host_for_udp_is_a_503() {
    let cluster = FakeCluster::new("c", vec![]);
    let mut case = Case::new(&terminating(ConnectConfig::default()), cluster, head(), Half::default());
    case.run().await;
    assert_eq!(case.client.status(), Some(503));
    assert_eq!(case.flags(), "UF");
}

#[test]
fn what_has_no_meaning_for_udp_is_refused_at_load() {
    for config in [
        ConnectConfig { allow_post: true, ..ConnectConfig::default() },
        ConnectConfig { proxy_protocol_config: Some(ProxyProtocolConfig::default()), ..ConnectConfig::default() },
    ] {
        assert!(table(&terminating(config)).is_err());
    }
    let template = |text: &str| {
        let mut routes = terminating(ConnectConfig::default());
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.into())) };
        let fields = [("uri_template".to_owned(), value)].into();
        let metadata = adit_config::proto::envoy::config::core::v3::Metadata {
            filter_metadata: [("adit.connect_udp".to_owned(), prost_types::Struct { fields })].into(),
            ..Default::default()
        };
        routes.virtual_hosts[0].routes[0].metadata = Some(metadata);
        table(&routes).map(|_| ())
    };
    assert!(template("/udp/{target_host}/{target_port}").is_ok());
    let errors = template("/udp/{target_host}").unwrap_err();
    assert!(errors[0].path.ends_with("metadata.filter_metadata[adit.connect_udp].uri_template"), "{errors:?}");
}
