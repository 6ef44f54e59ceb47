//! Socket options of listening sockets.
//!
//! Accepted sockets inherit `TCP_NODELAY`, keep-alive and most others on Linux, so they are set here once and never per
//! connection.

use std::io;
use std::time::Duration;

use adit_config::proto::envoy::config::core::v3 as pb;
use adit_config::{Diagnostic, Path};
use pb::socket_option::{SocketState, Value};
use socket2::{Socket, TcpKeepalive};

/// When a socket option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    BeforeBind,
    Bound,
    Listening,
}

/// One of `socket_options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketOption {
    pub(crate) when: When,
    kind: Kind,
    value: i64,
}

/// The options that can be set without raw system calls. Others are refused at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    KeepAlive,
    SendBuffer,
    ReceiveBuffer,
    Priority,
    Mark,
    ReuseAddress,
    BusyPoll,
    Tos,
    TrafficClass,
    FreeBind,
    FreeBindV6,
    Transparent,
    TransparentV6,
    NoDelay,
    MaxSegment,
    KeepIdle,
    KeepInterval,
    KeepCount,
    QuickAck,
    UserTimeout,
    NotSentLowat,
}

/// Linux's numbers: level, name.
const KNOWN: [(i64, i64, Kind); 21] = [
    (1, 2, Kind::ReuseAddress),
    (1, 7, Kind::SendBuffer),
    (1, 8, Kind::ReceiveBuffer),
    (1, 9, Kind::KeepAlive),
    (1, 12, Kind::Priority),
    (1, 36, Kind::Mark),
    (1, 46, Kind::BusyPoll),
    (0, 1, Kind::Tos),
    (0, 15, Kind::FreeBind),
    (0, 19, Kind::Transparent),
    (41, 67, Kind::TrafficClass),
    (41, 75, Kind::TransparentV6),
    (41, 78, Kind::FreeBindV6),
    (6, 1, Kind::NoDelay),
    (6, 2, Kind::MaxSegment),
    (6, 4, Kind::KeepIdle),
    (6, 5, Kind::KeepInterval),
    (6, 6, Kind::KeepCount),
    (6, 12, Kind::QuickAck),
    (6, 18, Kind::UserTimeout),
    (6, 25, Kind::NotSentLowat),
];

impl SocketOption {
    /// From a list at `path`.
    pub(crate) fn list(messages: &[pb::SocketOption], path: &Path) -> Result<Vec<Self>, Diagnostic> {
        messages.iter().enumerate().map(|(index, one)| Self::from_proto(one, &path.index(index))).collect()
    }

    fn from_proto(message: &pb::SocketOption, path: &Path) -> Result<Self, Diagnostic> {
        let known = KNOWN.iter().find(|(level, name, _)| (*level, *name) == (message.level, message.name));
        let Some((.., kind)) = known else {
            let message = format!("socket option level {} name {} is not supported", message.level, message.name);
            return Err(Diagnostic::error(path.field("name"), message));
        };
        let value = match &message.value {
            Some(Value::IntValue(value)) => *value,
            Some(Value::BufValue(bytes)) => <[u8; 4]>::try_from(bytes.as_slice())
                .map(|bytes| i64::from(i32::from_ne_bytes(bytes)))
                .map_err(|_| Diagnostic::error(path.field("buf_value"), "this option takes four octets"))?,
            None => return Err(Diagnostic::error(path, "a value is required")),
        };
        if !(0..=i64::from(i32::MAX)).contains(&value) {
            return Err(Diagnostic::error(path.field("int_value"), format!("{value} is out of range")));
        }
        let when = match message.state() {
            SocketState::StatePrebind => When::BeforeBind,
            SocketState::StateBound => When::Bound,
            SocketState::StateListening => When::Listening,
        };
        Ok(Self { when, kind: *kind, value })
    }

    pub(crate) fn set(&self, socket: &Socket) -> io::Result<()> {
        let on = self.value != 0;
        let number = u32::try_from(self.value).unwrap_or(u32::MAX);
        let size = usize::try_from(self.value).unwrap_or(usize::MAX);
        let seconds = Duration::from_secs(u64::from(number));
        match self.kind {
            Kind::KeepAlive => socket.set_keepalive(on),
            Kind::SendBuffer => socket.set_send_buffer_size(size),
            Kind::ReceiveBuffer => socket.set_recv_buffer_size(size),
            Kind::Priority => socket.set_priority(number),
            Kind::Mark => socket.set_mark(number),
            Kind::ReuseAddress => socket.set_reuse_address(on),
            Kind::BusyPoll => socket.set_busy_poll(number),
            Kind::Tos => socket.set_tos_v4(number),
            Kind::TrafficClass => socket.set_tclass_v6(number),
            Kind::FreeBind => socket.set_freebind_v4(on),
            Kind::FreeBindV6 => socket.set_freebind_v6(on),
            Kind::Transparent => socket.set_ip_transparent_v4(on),
            Kind::TransparentV6 => socket.set_ip_transparent_v6(on),
            Kind::NoDelay => socket.set_tcp_nodelay(on),
            Kind::MaxSegment => socket.set_tcp_mss(number),
            Kind::KeepIdle => rustix::net::sockopt::set_tcp_keepidle(socket, seconds).map_err(io::Error::from),
            Kind::KeepInterval => rustix::net::sockopt::set_tcp_keepintvl(socket, seconds).map_err(io::Error::from),
            Kind::KeepCount => rustix::net::sockopt::set_tcp_keepcnt(socket, number).map_err(io::Error::from),
            Kind::QuickAck => socket.set_tcp_quickack(on),
            Kind::UserTimeout => socket.set_tcp_user_timeout(Some(Duration::from_millis(u64::from(number)))),
            Kind::NotSentLowat => socket.set_tcp_notsent_lowat(number),
        }
    }
}

/// `tcp_keepalive`; absent values are the kernel's.
pub(crate) fn keepalive(message: &pb::TcpKeepalive) -> TcpKeepalive {
    let seconds = |value: Option<u32>| value.map(|seconds| Duration::from_secs(u64::from(seconds)));
    let mut keepalive = TcpKeepalive::new();
    if let Some(probes) = message.keepalive_probes {
        keepalive = keepalive.with_retries(probes);
    }
    if let Some(time) = seconds(message.keepalive_time) {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = seconds(message.keepalive_interval) {
        keepalive = keepalive.with_interval(interval);
    }
    keepalive
}
