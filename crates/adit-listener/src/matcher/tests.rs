#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn range(text: &str) -> CidrRange {
    let (prefix, length) = text.split_once('/').unwrap();
    let message = CidrMessage { address_prefix: prefix.into(), prefix_len: Some(length.parse().unwrap()) };
    CidrRange::from_proto(&message, "").unwrap()
}

fn socket(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

fn names(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|name| (*name).into()).collect()
}

/// A connection from 10.1.1.1:4000 to 192.0.2.1:80, changed by `change`.
fn find(chains: &[ChainMatch], change: impl FnOnce(&mut ConnInfo)) -> Option<usize> {
    let mut info = ConnInfo::new(1, socket("192.0.2.1:80"), socket("10.1.1.1:4000"));
    change(&mut info);
    FilterChainMatcher::new(chains.to_vec()).find(&MatchInput::from(&info))
}

fn any() -> ChainMatch {
    ChainMatch::default()
}

#[test]
fn no_chain_matches_nothing_and_an_empty_match_everything() {
    assert_eq!(find(&[], |_| {}), None);
    assert_eq!(find(&[any(), any()], |_| {}), Some(0));
}

#[test]
fn the_destination_port_comes_first() {
    let chains = [
        ChainMatch { prefix_ranges: vec![range("192.0.2.1/32")], ..any() },
        ChainMatch { destination_port: Some(80), ..any() },
    ];
    assert_eq!(find(&chains, |_| {}), Some(1));
    assert_eq!(find(&chains, |info| info.local = socket("192.0.2.1:81")), Some(0));
    assert_eq!(find(&chains, |info| info.local = Address::Pipe("/s".into())), None);
}

#[test]
fn the_longest_prefix_wins_and_what_was_left_behind_stays_behind() {
    let chains = [
        ChainMatch { prefix_ranges: vec![range("192.0.0.0/16")], ..any() },
        ChainMatch { prefix_ranges: vec![range("192.0.2.0/24")], transport_protocol: "tls".into(), ..any() },
        any(),
    ];
    assert_eq!(find(&chains, |info| info.transport = "tls"), Some(1));
    // The second chain's range is the best; that it wants TLS does not bring the first one back.
    assert_eq!(find(&chains, |_| {}), None);
    assert_eq!(find(&chains, |info| info.local = socket("192.0.9.1:80")), Some(0));
    assert_eq!(find(&chains, |info| info.local = socket("[::1]:80")), Some(2));
}

#[test]
fn server_names_go_from_exact_over_longer_suffixes_to_none() {
    let chains = [
        any(),
        ChainMatch { server_names: names(&["*.example.com"]), ..any() },
        ChainMatch { server_names: names(&["*.b.example.com"]), ..any() },
        ChainMatch { server_names: names(&["a.b.example.com", "other.test"]), ..any() },
    ];
    for (name, expected) in [
        ("a.b.example.com", 3),
        ("A.B.Example.com", 3),
        ("c.b.example.com", 2),
        ("x.y.b.example.com", 2),
        ("b.example.com", 1),
        ("example.com", 0),
        (".example.com", 0),
        ("other.test", 3),
        ("", 0),
    ] {
        let change = |info: &mut ConnInfo| info.server_name = (!name.is_empty()).then(|| name.into());
        assert_eq!(find(&chains, change), Some(expected), "{name}");
    }
}

#[test]
fn the_protocol_offered_first_decides() {
    let chains = [
        ChainMatch { application_protocols: names(&["http/1.1"]), ..any() },
        ChainMatch { application_protocols: names(&["h2"]), ..any() },
        any(),
    ];
    let offer = |list: &'static [&'static str]| move |info: &mut ConnInfo| info.offered_alpn = names(list);
    assert_eq!(find(&chains, offer(&["h2", "http/1.1"])), Some(1));
    assert_eq!(find(&chains, offer(&["http/1.1", "h2"])), Some(0));
    assert_eq!(find(&chains, offer(&["spdy", "h2"])), Some(1));
    assert_eq!(find(&chains, offer(&["spdy"])), Some(2));
    assert_eq!(find(&chains, |_| {}), Some(2));
}

#[test]
fn sources_are_matched_by_kind_range_and_port() {
    let chains = [
        ChainMatch { source_type: SourceType::Local, ..any() },
        ChainMatch { source_type: SourceType::External, source_prefix_ranges: vec![range("10.1.0.0/16")], ..any() },
        ChainMatch {
            source_type: SourceType::External,
            source_prefix_ranges: vec![range("10.1.0.0/16")],
            source_ports: vec![4000],
            ..any()
        },
        any(),
    ];
    assert_eq!(find(&chains, |_| {}), Some(2));
    assert_eq!(find(&chains, |info| info.remote = socket("10.1.1.1:4001")), Some(1));
    assert_eq!(find(&chains, |info| info.remote = socket("127.0.0.9:1")), Some(0));
    assert_eq!(find(&chains, |info| info.remote = socket("192.0.2.1:9")), Some(0));
    assert_eq!(find(&chains, |info| info.remote = Address::Pipe("".into())), Some(0));
    // External and not in range: "any" was left behind by the source type.
    assert_eq!(find(&chains, |info| info.remote = socket("11.0.0.1:1")), None);
}

#[test]
fn the_direct_source_is_the_sockets_own_peer() {
    let chains = [any(), ChainMatch { direct_source_prefix_ranges: vec![range("172.16.0.0/12")], ..any() }];
    assert_eq!(find(&chains, |info| info.direct_remote = Some(Box::new(socket("172.16.1.1:1")))), Some(1));
    assert_eq!(find(&chains, |_| {}), Some(0));
}

#[test]
fn partial_wildcards_are_refused() {
    let message = pb::FilterChainMatch { server_names: vec!["a*.test".into()], ..Default::default() };
    let problem = ChainMatch::from_proto(&message, &Path::from("m")).unwrap_err();
    assert_eq!(problem.path, "m.server_names[0]");
}

/// Envoy's own way: a map in a map for each criterion, each chain under the product of its values.
fn reference(chains: &[ChainMatch], input: &MatchInput<'_>) -> Option<usize> {
    let mut tree: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for (index, chain) in chains.iter().enumerate() {
        for key in keys(chain) {
            tree.entry(key).or_insert(index);
        }
    }
    let mut path: Vec<String> = Vec::new();
    for level in 0..9 {
        let next = candidates(level, input, &tree, &path);
        path.push(next?);
    }
    tree.get(&path).copied()
}

fn keys(chain: &ChainMatch) -> Vec<Vec<String>> {
    let nets = |ranges: &[CidrRange]| ranges.iter().map(|range| range.net().to_string()).collect::<Vec<_>>();
    let texts = |list: &[Box<str>]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let levels = [
        chain.destination_port.iter().map(u16::to_string).collect(),
        nets(&chain.prefix_ranges),
        texts(&chain.server_names),
        Some(chain.transport_protocol.to_string()).into_iter().filter(|text| !text.is_empty()).collect(),
        texts(&chain.application_protocols),
        nets(&chain.direct_source_prefix_ranges),
        Some(format!("{:?}", chain.source_type)).into_iter().filter(|text| text != "Any").collect(),
        nets(&chain.source_prefix_ranges),
        chain.source_ports.iter().map(u16::to_string).collect(),
    ];
    let mut product = vec![Vec::new()];
    for mut level in levels {
        if level.is_empty() {
            level.push(String::new());
        }
        product = product
            .iter()
            .flat_map(|path: &Vec<String>| {
                level.iter().map(|value| path.iter().cloned().chain([value.clone()]).collect::<Vec<_>>())
            })
            .collect();
    }
    product
}

/// The key that a level's map is looked up with and that exists there, the most specific first.
fn candidates(
    level: usize,
    input: &MatchInput<'_>,
    tree: &BTreeMap<Vec<String>, usize>,
    path: &[String],
) -> Option<String> {
    let here: Vec<String> = tree.keys().filter(|key| key.starts_with(path)).map(|key| key[level].clone()).collect();
    let has = |key: &str| here.iter().any(|one| one == key);
    let cidr = |address: &Address| {
        let ip = address.ip().unwrap_or(NO_IP);
        let mut holding: Vec<_> = here.iter().filter(|text| !text.is_empty()).map(|text| range(text)).collect();
        holding.retain(|range| range.contains(ip));
        holding.sort_by_key(CidrRange::prefix_len);
        let best = holding.last().map(|range| range.net().to_string());
        best.or_else(|| has("").then(String::new))
    };
    let wanted: Vec<String> = match level {
        0 => vec![input.local.port().map_or_else(String::new, |port| port.to_string())],
        1 => return cidr(input.local),
        2 => {
            let labels: Vec<_> = input.server_name.split('.').collect();
            let suffixes = (1..labels.len()).map(|from| format!("*.{}", labels[from..].join(".")));
            std::iter::once(input.server_name.to_owned()).chain(suffixes).collect()
        }
        3 => vec![input.transport.to_owned()],
        4 => input.alpn.iter().map(ToString::to_string).collect(),
        5 => return cidr(input.direct_remote),
        6 => vec![if input.is_local() { "Local".into() } else { "External".into() }],
        7 => return cidr(input.remote),
        _ => vec![input.remote.port().map_or_else(String::new, |port| port.to_string())],
    };
    wanted.into_iter().find(|key| has(key)).or_else(|| has("").then(String::new))
}

fn subset<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = values.len();
    prop_oneof![3 => Just(Vec::new()), 2 => proptest::sample::subsequence(values, 1..=most)]
}

fn chain() -> impl Strategy<Value = ChainMatch> {
    let nets = || subset(["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24"].map(range).to_vec());
    (
        proptest::option::of(proptest::sample::select(vec![80_u16, 443])),
        nets(),
        subset(names(&["a.x.test", "*.x.test", "*.test"])),
        proptest::sample::select(vec!["", "", "tls", "raw_buffer"]),
        subset(names(&["h2", "http/1.1"])),
        nets(),
        proptest::sample::select(vec![SourceType::Any, SourceType::Any, SourceType::Local, SourceType::External]),
        nets(),
        subset(vec![1_u16, 2]),
    )
        .prop_map(|(port, prefix, names, transport, alpn, direct, kind, source, ports)| ChainMatch {
            destination_port: port,
            prefix_ranges: prefix,
            server_names: names,
            transport_protocol: transport.into(),
            application_protocols: alpn,
            direct_source_prefix_ranges: direct,
            source_type: kind,
            source_prefix_ranges: source,
            source_ports: ports,
        })
}

fn connection() -> impl Strategy<Value = ConnInfo> {
    let address = || {
        proptest::sample::select(vec!["10.1.1.1:80", "10.1.2.1:443", "10.9.9.9:1", "127.0.0.1:2", "11.1.1.1:80"])
            .prop_map(socket)
    };
    (
        address(),
        address(),
        proptest::option::of(address()),
        proptest::sample::select(vec!["", "a.x.test", "b.x.test", "y.test", "test"]),
        proptest::sample::select(vec!["tls", "raw_buffer"]),
        proptest::sample::subsequence(names(&["h2", "http/1.1", "other"]), 0..=3).prop_shuffle(),
    )
        .prop_map(|(local, remote, direct, name, transport, alpn)| {
            let mut info = ConnInfo::new(1, local, remote);
            info.direct_remote = direct.map(Box::new);
            info.server_name = (!name.is_empty()).then(|| name.into());
            info.transport = transport;
            info.offered_alpn = alpn;
            info
        })
}

proptest! {
    #[test]
    fn agrees_with_maps_in_maps(chains in proptest::collection::vec(chain(), 0..6), info in connection()) {
        // Two chains under one key are refused at load.
        let mut seen = std::collections::BTreeSet::new();
        prop_assume!(chains.iter().flat_map(keys).all(|key| seen.insert(key)));
        let input = MatchInput::from(&info);
        prop_assert_eq!(FilterChainMatcher::new(chains.clone()).find(&input), reference(&chains, &input));
    }
}
