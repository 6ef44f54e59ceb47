#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adit_config::proto::envoy::extensions::transport_sockets::internal_upstream::v3::internal_upstream_transport::MetadataValueSource;
use adit_config::proto::envoy::r#type::metadata::v3::{MetadataKind, metadata_kind};
use adit_filter::upstream::{Host, HostInfo, Report};
use adit_io::{FilterValue, Sharing, Value};
use adit_stats::Store;
use adit_upstream::transport::RawBuffer;

use super::*;

struct OneHost(HostInfo);

impl Host for OneHost {
    fn info(&self) -> &HostInfo {
        &self.0
    }

    fn report(&self, _report: Report) {}
}

fn named(key: &str, value: &str) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set(key, Value::String(value.into()));
    metadata
}

fn context(state: FilterState) -> TransportContext {
    let address = Address::Internal { listener: "l".into(), endpoint_id: "".into() };
    let info = HostInfo { address, hostname: "".into(), cluster: "c".into(), metadata: named("host", "h") };
    TransportContext {
        host: Arc::new(OneHost(info)),
        cluster_metadata: named("cluster", "c"),
        clusters: None,
        downstream: None,
        state,
        metadata: named("request", "r"),
        auto_sni: None,
        auto_san_validation: false,
        verify_name: None,
        alpn: &[],
    }
}

fn kind(kind: metadata_kind::Kind, name: &str) -> MetadataValueSource {
    MetadataValueSource { kind: Some(MetadataKind { kind: Some(kind) }), name: name.into() }
}

fn host(name: &str) -> MetadataValueSource {
    kind(Kind::Host(metadata_kind::Host {}), name)
}

fn cluster(name: &str) -> MetadataValueSource {
    kind(Kind::Cluster(metadata_kind::Cluster {}), name)
}

fn build(sources: Vec<MetadataValueSource>, store: &Store) -> BuiltTransport {
    let message =
        InternalUpstreamTransport { passthrough_metadata: sources, transport_socket: Some(TransportSocket::default()) };
    let inner = |_: Option<&TransportSocket>, _: &Path| Ok(Arc::new(RawBuffer) as Arc<dyn TransportSocketFactory>);
    InternalUpstream::build(&message, &Path::root(), &store.root().scope("cluster.c"), &inner)
}

fn state(sharing: Sharing, value: FilterValue) -> FilterState {
    let mut state = FilterState::default();
    state.set("key", value, sharing);
    state
}

#[test]
fn metadata_of_host_and_cluster_is_passed_and_what_is_absent_is_counted() {
    let store = Store::new(1);
    let socket =
        build(vec![host("host"), cluster("cluster"), host("cluster"), cluster("request")], &store).ok().unwrap();
    let (_, metadata) = socket.passes_on(&context(FilterState::default()));
    assert_eq!(metadata.iter().count(), 2);
    assert_eq!(metadata.get("host"), Some(&Value::String("h".into())));
    assert_eq!(metadata.get("cluster"), Some(&Value::String("c".into())));
    assert_eq!(store.root().counter("cluster.c.internal_upstream.no_metadata").value(), 2);
}

#[test]
fn only_shared_state_is_passed() {
    let socket = build(Vec::new(), &Store::new(1)).ok().unwrap();
    for (sharing, arrives) in
        [(Sharing::None, None), (Sharing::Once, Some(Sharing::None)), (Sharing::Transitive, Some(Sharing::Transitive))]
    {
        let (state, _) = socket.passes_on(&context(state(sharing, FilterValue::Number(1))));
        assert_eq!(state.get("key").map(|object| object.sharing), arrives);
    }
}

#[test]
fn the_key_is_equal_for_equal_state_and_for_no_other() {
    let socket = build(Vec::new(), &Store::new(1)).ok().unwrap();
    let key = |state| socket.pool_key(&context(state));
    let text = |text: &str| FilterValue::Text(text.into());
    assert_eq!(key(FilterState::default()), None);
    assert_eq!(key(state(Sharing::None, text("a"))), None);
    assert_eq!(key(state(Sharing::Once, text("a"))), key(state(Sharing::Once, text("a"))));
    let headers = |value: &str| FilterValue::Headers(Arc::from([("n".into(), value.into())]));
    let values = [
        text("a"),
        text("b"),
        text("1"),
        FilterValue::Bool(true),
        FilterValue::Bool(false),
        FilterValue::Number(1),
        FilterValue::Number(2),
        FilterValue::Address(Address::Pipe("a".into())),
        FilterValue::Address("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap().into()),
        headers("a"),
        headers("b"),
        FilterValue::Any(Arc::new(1)),
    ];
    let keys: Vec<_> = values.iter().map(|value| key(state(Sharing::Once, value.clone()))).collect();
    for (i, one) in keys.iter().enumerate() {
        assert!(one.is_some());
        for (j, other) in keys.iter().enumerate() {
            assert_eq!(one == other, i == j, "{:?} {:?}", values[i], values[j]);
        }
    }
    // Of what cannot be compared nothing is equal, not even the same object.
    let opaque = state(Sharing::Once, FilterValue::Any(Arc::new(1)));
    assert_ne!(key(opaque.clone()), key(opaque));
    assert_ne!(key(state(Sharing::Once, text("a"))), key(state(Sharing::Transitive, text("a"))));
}

#[test]
fn refused_configurations_name_the_field() {
    let store = Store::new(1);
    let bad = [
        (kind(Kind::Request(metadata_kind::Request {}), "k"), "metadata type is not supported: request"),
        (kind(Kind::Route(metadata_kind::Route {}), "k"), "metadata type is not supported: route"),
        (MetadataValueSource { kind: None, name: "k".into() }, "value is required"),
    ];
    for (source, why) in bad {
        let found = build(vec![source], &store).err().unwrap();
        assert!(
            found[0].to_string().contains(why) && found[0].to_string().contains("passthrough_metadata[0].kind"),
            "{found:?}"
        );
    }
    let message = InternalUpstreamTransport::default();
    let inner = |_: Option<&TransportSocket>, _: &Path| panic!("there is no inner socket");
    let found = InternalUpstream::build(&message, &Path::root(), &store.root(), &inner).err().unwrap();
    assert!(found[0].to_string().contains("transport_socket"), "{found:?}");
}
