#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use adit_filter::upstream::{Host, HostInfo, Report};
use adit_io::{Address, FilterState, FilterValue, Metadata, Sharing};
use adit_stats::Store;
use adit_tls::CertificateStore;

use super::*;

struct TestHost(HostInfo);

impl Host for TestHost {
    fn info(&self) -> &HostInfo {
        &self.0
    }

    fn report(&self, _report: Report) {}
}

fn context(sni: Option<&str>, verify_name: Option<&str>, protocols: Option<&str>) -> TransportContext {
    let address = Address::Ip("10.1.2.3:443".parse().unwrap());
    let info = HostInfo { address, hostname: "".into(), cluster: "c".into(), metadata: Metadata::default() };
    let mut state = FilterState::default();
    if let Some(protocols) = protocols {
        state.set(PROTOCOLS_KEY, FilterValue::Text(protocols.into()), Sharing::None);
    }
    TransportContext {
        host: Arc::new(TestHost(info)),
        cluster_metadata: Metadata::default(),
        clusters: None,
        downstream: None,
        state,
        metadata: Metadata::default(),
        auto_sni: sni.map(Box::from),
        auto_san_validation: verify_name.is_some(),
        verify_name: verify_name.map(Box::from),
        alpn: &[],
    }
}

#[test]
fn a_connection_serves_only_those_who_ask_for_the_same_name_of_the_same_server() {
    let env = TlsEnv::new(&[], CertificateStore::new().unwrap());
    let scope = Store::new(1).root();
    let connector = Connector::from_proto(&UpstreamTlsContext::default(), &env, &scope, &Path::from("at")).unwrap();
    let socket = Upstream(connector);
    let mut keys = HashSet::new();
    for (sni, verify_name, protocols) in [
        (None, None, None),
        (Some("a"), None, None),
        (None, Some("a"), None),
        (None, Some(""), None),
        (None, None, Some("a")),
        (Some("a"), Some("b"), None),
        (Some("b"), Some("a"), None),
        (Some("ab"), Some(""), None),
        (Some("a"), Some("b"), Some("c")),
    ] {
        let ctx = context(sni, verify_name, protocols);
        assert!(keys.insert(socket.pool_key(&ctx)), "{sni:?} {verify_name:?} {protocols:?}");
        assert_eq!(socket.pool_key(&ctx), socket.pool_key(&context(sni, verify_name, protocols)));
    }
    assert!(keys.contains(&None), "who asks for nothing shares with all");
}
