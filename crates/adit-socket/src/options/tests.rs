#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::Ipv4Addr;

use adit_config::proto::envoy::config::core::v3::socket_option::{SocketType, Value as Given, socket_type};
use socket2::{Domain, SockRef, Type};

use super::*;

fn message(level: i64, name: i64, value: Given) -> pb::SocketOption {
    pb::SocketOption { level, name, value: Some(value), ..pb::SocketOption::default() }
}

fn number(level: i64, name: i64, value: i64) -> pb::SocketOption {
    message(level, name, Given::IntValue(value))
}

fn octets(level: i64, name: i64, value: &[u8]) -> pb::SocketOption {
    message(level, name, Given::BufValue(value.to_vec()))
}

fn options(messages: &[pb::SocketOption]) -> SocketOptions {
    SocketOptions::from_proto(messages, &Path::root().field("o")).unwrap()
}

fn here() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn tcp() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
}

#[test]
fn none_cost_nothing() {
    assert!(options(&[]).is_empty());
    assert_eq!(options(&[]), SocketOptions::default());
    assert_eq!(size_of::<SocketOptions>(), 16);
}

#[test]
fn numbers_and_names_are_set() {
    let four = |value: i32| value.to_ne_bytes();
    let all = options(&[
        number(0, 1, 8),
        octets(6, 13, b"reno\0"),
        octets(1, 12, &four(3)),
        number(0, 2, 7),
        number(6, 5, 9),
    ]);
    let socket = tcp();
    all.set(When::BeforeBind, SocketKind::stream(&here()), &socket).unwrap();
    assert_eq!(socket.tos_v4().unwrap(), 8);
    assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
    assert_eq!(socket.priority().unwrap(), 3);
    assert_eq!(socket.ttl_v4().unwrap(), 7);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(9));
}

#[test]
fn marks_have_all_their_bits() {
    let octets = octets(1, 36, &0x8000_0001_u32.to_ne_bytes());
    assert_eq!(options(&[number(1, 36, 0x8000_0001)]), options(&[octets]));
}

#[test]
fn an_option_is_for_its_state_its_type_and_its_version() {
    let base = number(0, 1, 8);
    let (stream, datagram) = (Some(socket_type::Stream {}), Some(socket_type::Datagram {}));
    let of_type = |stream, datagram| pb::SocketOption { r#type: Some(SocketType { stream, datagram }), ..base.clone() };
    let in_state = |state: SocketState| pb::SocketOption { state: state.into(), ..base.clone() };
    let of_version = |version: SocketIpVersion| pb::SocketOption { ip_version: version.into(), ..base.clone() };
    let v6: SocketAddr = "[::1]:1".parse().unwrap();
    let (v4_stream, v6_stream) = (SocketKind::stream(&here()), SocketKind::stream(&v6));
    let v4_datagram = SocketKind::datagram(&here());
    for (message, when, kind, set) in [
        (base.clone(), When::BeforeBind, v4_datagram, true),
        (base.clone(), When::Bound, v4_stream, false),
        (in_state(SocketState::StateBound), When::Bound, v4_stream, true),
        (in_state(SocketState::StateBound), When::BeforeBind, v4_stream, false),
        (in_state(SocketState::StateListening), When::Listening, v4_stream, true),
        (of_type(stream, None), When::BeforeBind, v4_stream, true),
        (of_type(stream, None), When::BeforeBind, v4_datagram, false),
        (of_type(None, datagram), When::BeforeBind, v4_stream, false),
        (of_type(None, datagram), When::BeforeBind, v4_datagram, true),
        (of_type(None, None), When::BeforeBind, v4_datagram, true),
        (of_version(SocketIpVersion::Ipv4), When::BeforeBind, v4_stream, true),
        (of_version(SocketIpVersion::Ipv4), When::BeforeBind, v6_stream, false),
        (of_version(SocketIpVersion::Ipv6), When::BeforeBind, v6_stream, true),
        (of_version(SocketIpVersion::Ipv6), When::BeforeBind, SocketKind::UNIX, false),
    ] {
        let socket = tcp();
        options(std::slice::from_ref(&message)).set(when, kind, &socket).unwrap();
        assert_eq!(socket.tos_v4().unwrap() == 8, set, "{message:?} {when:?} {kind:?}");
    }
}

#[test]
fn a_failure_names_the_option_and_ends_the_list() {
    let socket = tcp();
    let all = options(&[octets(6, 13, b"no-such"), number(0, 1, 8)]);
    let error = all.set(When::BeforeBind, SocketKind::stream(&here()), &socket).unwrap_err();
    assert!(error.to_string().starts_with("socket option level 6 name 13: No such file"), "{error}");
    assert_eq!(SockRef::from(&socket).tos_v4().unwrap(), 0);
}

#[test]
fn refusals_name_the_field() {
    for (message, expected) in [
        (number(1, 4711, 1), "o[0].name: socket option level 1 name 4711 is not supported"),
        (number(0, 1, -1), "o[0].int_value: -1 is out of range"),
        (number(0, 1, 1 << 31), "o[0].int_value: 2147483648 is out of range"),
        (number(1, 36, 1 << 32), "o[0].int_value: 4294967296 is out of range"),
        (octets(0, 1, &[0; 5]), "o[0].buf_value: this option takes four octets"),
        (octets(0, 1, &[255; 4]), "o[0].buf_value: -1 is out of range"),
        (number(6, 13, 1), "o[0].int_value: this option takes a name, as buf_value"),
        (octets(6, 13, b""), "o[0].buf_value: this option takes a name of 1 to 15 octets"),
        (octets(1, 25, &[b'a'; 16]), "o[0].buf_value: this option takes a name of 1 to 15 octets"),
        (pb::SocketOption { value: None, ..number(0, 1, 1) }, "o[0]: a value is required"),
    ] {
        let problems = SocketOptions::from_proto(&[message], &Path::root().field("o")).unwrap_err();
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
    // All of them.
    let problems = SocketOptions::from_proto(&[number(1, 4711, 1), number(0, 1, -1)], &Path::root()).unwrap_err();
    assert_eq!(problems.len(), 2);
}
