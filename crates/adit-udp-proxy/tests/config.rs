//! What is refused at load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::config::core::v3::BackoffStrategy;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::session::dynamic_forward_proxy::v3::FilterConfig as Dynamic;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::session::http_capsule::v3::FilterConfig as HttpCapsule;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::v3 as pb;
use adit_config::proto::xds::core::v3::TypedExtensionConfig;
use adit_config::proto::xds::r#type::matcher::v3::{Matcher, matcher};
use adit_config::{Diagnostic, Path};
use adit_filter::AccessLog;
use adit_stats::{Scope, Store};
use adit_udp_proxy::{Factories, UdpProxy};
use pb::UdpProxyConfig;
use pb::udp_proxy_config::session_filter::ConfigType;
use pb::udp_proxy_config::udp_tunneling_config::RetryOptions;
use pb::udp_proxy_config::{RouteSpecifier, SessionFilter, UdpTunnelingConfig};
use prost_types::Any;

struct Fakes(Scope);

impl Factories for Fakes {
    fn access_logs(&self, _: &[AccessLogMessage], _: &Path) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>> {
        Ok(Vec::new())
    }

    fn stats(&self) -> &Scope {
        &self.0
    }
}

fn pack<T: prost::Message + prost::Name>(message: &T) -> Any {
    Any { type_url: T::type_url(), value: message.encode_to_vec() }
}

fn plain() -> UdpProxyConfig {
    let action =
        TypedExtensionConfig { name: "route".into(), typed_config: Some(pack(&pb::Route { cluster: "c".into() })) };
    let on_no_match =
        matcher::OnMatch { on_match: Some(matcher::on_match::OnMatch::Action(action)), ..matcher::OnMatch::default() };
    UdpProxyConfig {
        stat_prefix: "p".into(),
        route_specifier: Some(RouteSpecifier::Matcher(Matcher {
            on_no_match: Some(Box::new(on_no_match)),
            matcher_type: None,
        })),
        ..UdpProxyConfig::default()
    }
}

fn filter(config: Any) -> SessionFilter {
    SessionFilter { name: "f".into(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn tunnel() -> UdpProxyConfig {
    UdpProxyConfig {
        session_filters: vec![filter(pack(&HttpCapsule::default()))],
        tunneling_config: Some(UdpTunnelingConfig {
            proxy_host: "proxy".into(),
            target_host: "target".into(),
            default_target_port: 443,
            ..UdpTunnelingConfig::default()
        }),
        ..plain()
    }
}

fn problem(message: &UdpProxyConfig) -> Option<String> {
    let root = Store::new(1).root();
    let found = UdpProxy::from_proto(message, &Fakes(root), &Path::root().field("udp")).err();
    found.map(|found| found.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn plain_and_tunnelled_proxies_are_accepted() {
    assert_eq!(problem(&plain()), None);
    assert_eq!(problem(&tunnel()), None);
}

#[test]
fn what_is_not_implemented_or_makes_no_sense_is_refused() {
    let changed = |base: UdpProxyConfig, change: &dyn Fn(&mut UdpProxyConfig)| {
        let mut message = base;
        change(&mut message);
        problem(&message).unwrap_or_default()
    };
    let tunnelled = |change: &dyn Fn(&mut UdpTunnelingConfig)| {
        changed(tunnel(), &|message| change(message.tunneling_config.as_mut().unwrap()))
    };
    for (text, found) in [
        ("use_original_src_ip is not supported", changed(plain(), &|m| m.use_original_src_ip = true)),
        (
            "use_per_packet_load_balancing is not supported",
            changed(plain(), &|m| m.use_per_packet_load_balancing = true),
        ),
        ("one of cluster, matcher", changed(plain(), &|m| m.route_specifier = None)),
        ("http_capsule needs a tunneling_config", changed(plain(), &|m| m.session_filters = tunnel().session_filters)),
        ("needs the session filter http_capsule", changed(tunnel(), &|m| m.session_filters.clear())),
        (
            "dynamic_forward_proxy.v3.FilterConfig is not supported",
            changed(tunnel(), &|m| m.session_filters.insert(0, filter(pack(&Dynamic::default())))),
        ),
        ("may stand here once", changed(tunnel(), &|m| m.session_filters.extend(tunnel().session_filters))),
        ("Can't set a post path when POST method isn't used", tunnelled(&|m| m.post_path = "/x".into())),
        ("is not a path", tunnelled(&|m| (m.use_post, m.post_path) = (true, "\u{7f}".into()))),
        ("udp.tunneling_config.default_target_port", tunnelled(&|m| m.default_target_port = 65_536)),
        ("udp.tunneling_config.proxy_port", tunnelled(&|m| m.proxy_port = Some(0))),
        ("udp.tunneling_config.proxy_host", tunnelled(&|m| m.proxy_host = "%NO_SUCH_THING%".into())),
        ("udp.tunneling_config.formatters", tunnelled(&|m| m.formatters.push(Default::default()))),
        (
            "base_interval",
            tunnelled(&|m| {
                m.retry_options =
                    Some(RetryOptions { backoff_options: Some(BackoffStrategy::default()), ..RetryOptions::default() });
            }),
        ),
    ] {
        assert!(found.contains(text), "{text:?} in {found:?}");
    }
}
