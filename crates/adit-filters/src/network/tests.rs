#![allow(clippy::unwrap_used, clippy::panic)]
use std::time::Duration;

use adit_config::pack;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::rbac::v3 as rbac_pb;
use adit_config::proto::envoy::extensions::filters::common::set_filter_state::v3 as state_pb;
use adit_config::proto::envoy::r#type::v3::TokenBucket;
use adit_filter::{Connection, NetworkVerdict};
use adit_testkit::{Peer, tcp_pair};
use prost_types::Any;

use super::*;
use crate::testing::{Scopes, connection};

fn filter(any: &Any, scopes: &Scopes) -> Arc<dyn NetworkFilter> {
    match network_filter(any, &scopes.env(), "f").unwrap().unwrap() {
        NetworkEntry::Filter(filter) => filter,
        NetworkEntry::Terminal(_) => panic!("terminal"),
    }
}

fn terminal(any: &Any) -> Arc<dyn NetworkTerminal> {
    match network_filter(any, &Scopes::new().env(), "f").unwrap().unwrap() {
        NetworkEntry::Terminal(terminal) => terminal,
        NetworkEntry::Filter(_) => panic!("not terminal"),
    }
}

fn refused(any: &Any) -> String {
    let scopes = Scopes::new();
    network_filter(any, &scopes.env(), "f").map(drop).unwrap_err().to_string()
}

async fn pair() -> (Peer, Connection) {
    let (client, server) = tcp_pair().await;
    (Peer::new(client), connection(server))
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn rbac_judges_a_connection() {
    let scopes = Scopes::new();
    let range = core::CidrRange { address_prefix: "10.0.0.0".into(), prefix_len: Some(8) };
    let policy = rbac_pb::Policy {
        permissions: vec![rbac_pb::Permission { rule: Some(rbac_pb::permission::Rule::Any(true)) }],
        principals: vec![rbac_pb::Principal { identifier: Some(rbac_pb::principal::Identifier::RemoteIp(range)) }],
        ..Default::default()
    };
    let rules = |action: rbac_pb::rbac::Action| rbac_pb::Rbac {
        action: action as i32,
        policies: [("p".to_owned(), policy.clone())].into(),
        ..Default::default()
    };
    let make = |action| {
        let message = pb::rbac::v3::Rbac {
            stat_prefix: "n.".into(),
            rules: Some(rules(action)),
            delay_deny: seconds(3),
            ..Default::default()
        };
        filter(&pack(&message), &scopes)
    };
    let (_peer, mut connection) = pair().await;
    let verdict = make(rbac_pb::rbac::Action::Allow).on_connection(&mut connection).await;
    assert_eq!(verdict, NetworkVerdict::Continue);
    let verdict = make(rbac_pb::rbac::Action::Deny).on_connection(&mut connection).await;
    let details = "rbac_access_denied_matched_policy[p]".to_owned();
    assert_eq!(verdict, NetworkVerdict::Close { delay: Duration::from_secs(3), details, flag: None });
    assert_eq!((scopes.counter("n.rbac.allowed"), scopes.counter("n.rbac.denied")), (1, 1));
}

#[tokio::test]
async fn set_filter_state_reads_the_connection() {
    let source = core::data_source::Specifier::InlineString("%DOWNSTREAM_REMOTE_ADDRESS% %LISTENER_NAME%".into());
    let source = core::DataSource { specifier: Some(source), ..Default::default() };
    let format = core::SubstitutionFormatString {
        format: Some(core::substitution_format_string::Format::TextFormatSource(source)),
        ..Default::default()
    };
    let value = |key: &str| state_pb::FilterStateValue {
        key: Some(state_pb::filter_state_value::Key::ObjectKey(key.into())),
        factory_key: "envoy.string".into(),
        value: Some(state_pb::filter_state_value::Value::FormatString(format.clone())),
        ..Default::default()
    };
    let mut message = pb::set_filter_state::v3::Config {
        on_new_connection: vec![value("new")],
        on_downstream_tls_handshake: vec![value("tls")],
        on_downstream_data: vec![],
    };
    let (_peer, mut connection) = pair().await;
    let filter = filter(&pack(&message), &Scopes::new());
    assert_eq!(filter.on_connection(&mut connection).await, NetworkVerdict::Continue);
    assert_eq!(connection.io.state.text("new"), Some("10.0.0.9:5 l"));
    assert_eq!(connection.io.state.text("tls"), None);
    message.on_downstream_data = vec![value("data")];
    assert_eq!(refused(&pack(&message)), "f.on_downstream_data: not supported");
}

#[tokio::test]
async fn connection_limit_counts_until_the_guard_is_dropped() {
    let scopes = Scopes::new();
    let mut message = pb::connection_limit::v3::ConnectionLimit {
        stat_prefix: "c".into(),
        max_connections: Some(1),
        delay: seconds(2),
        runtime_enabled: Some(core::RuntimeFeatureFlag { default_value: Some(true), runtime_key: "on".into() }),
    };
    let filter = filter(&pack(&message), &scopes);
    let ((_a, mut first), (_b, mut second)) = (pair().await, pair().await);
    assert_eq!(filter.on_connection(&mut first).await, NetworkVerdict::Continue);
    let limited = NetworkVerdict::Close { delay: Duration::from_secs(2), details: String::new(), flag: None };
    assert_eq!(filter.on_connection(&mut second).await, limited);
    assert_eq!(scopes.gauge("connection_limit.c.active_connections"), 1);
    assert_eq!(scopes.counter("connection_limit.c.limited_connections"), 1);
    first.guards.clear();
    assert_eq!(scopes.gauge("connection_limit.c.active_connections"), 0);
    assert_eq!(filter.on_connection(&mut second).await, NetworkVerdict::Continue);
    first.worker.runtime.set("on", "false");
    assert_eq!(filter.on_connection(&mut first).await, NetworkVerdict::Continue);
    message.max_connections = None;
    assert_eq!(refused(&pack(&message)), "f.max_connections: must be at least 1");
}

#[tokio::test]
async fn local_ratelimit_takes_a_token_for_each_connection() {
    let scopes = Scopes::new();
    let bucket = TokenBucket { max_tokens: 1, tokens_per_fill: None, fill_interval: seconds(3_600) };
    let message = pb::local_ratelimit::v3::LocalRateLimit {
        stat_prefix: "r".into(),
        token_bucket: Some(bucket),
        ..Default::default()
    };
    let filter = filter(&pack(&message), &scopes);
    let (_peer, mut connection) = pair().await;
    assert_eq!(filter.on_connection(&mut connection).await, NetworkVerdict::Continue);
    assert!(matches!(filter.on_connection(&mut connection).await, NetworkVerdict::Close { .. }));
    assert_eq!(scopes.counter("local_rate_limit.r.rate_limited"), 1);
}

#[tokio::test]
async fn echo_sends_back_every_byte_and_the_end() {
    let (mut peer, connection) = pair().await;
    let served = tokio::spawn(terminal(&pack(&pb::echo::v3::Echo {})).serve(connection));
    peer.send("hello").await;
    peer.expect("hello").await;
    peer.send("again").await;
    peer.half_close().await;
    peer.expect("again").await;
    peer.expect_fin().await;
    let info = served.await.unwrap().unwrap();
    assert_eq!((info.bytes_received, info.bytes_sent), (10, 10));
}

#[tokio::test]
async fn direct_response_arrives_though_the_client_has_spoken() {
    let source = core::data_source::Specifier::InlineString("bye\n".into());
    let response = Some(core::DataSource { specifier: Some(source), ..Default::default() });
    let any = pack(&pb::direct_response::v3::Config { response });
    let (mut peer, connection) = pair().await;
    peer.send("unread").await;
    let served = tokio::spawn(terminal(&any).serve(connection));
    peer.expect("bye\n").await;
    peer.expect_fin().await;
    drop(peer);
    assert_eq!(served.await.unwrap().unwrap().bytes_sent, 4);
}
