use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::core::v3 as pb;
use adit_config::{Diagnostic, Path};
use pb::socket_option::{self, SocketIpVersion, SocketState};
use socket2::Socket;

/// When a socket option is set (`state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// `STATE_PREBIND`: the socket is neither bound nor connected.
    BeforeBind,
    /// `STATE_BOUND`.
    Bound,
    /// `STATE_LISTENING`.
    Listening,
}

/// What kind of socket it is: options may be for some only (`type`, `ip_version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketKind {
    datagram: bool,
    /// Absent where there is no IP.
    v6: Option<bool>,
}

impl SocketKind {
    /// A Unix socket of streams.
    pub const UNIX: Self = Self { datagram: false, v6: None };

    /// A TCP socket for this address or its like.
    pub fn stream(address: &SocketAddr) -> Self {
        Self { datagram: false, v6: Some(address.is_ipv6()) }
    }

    /// A UDP socket for this address or its like.
    pub fn datagram(address: &SocketAddr) -> Self {
        Self { datagram: true, v6: Some(address.is_ipv6()) }
    }
}

/// The `socket_options` of a listener, an address or a `BindConfig`. Cheap to clone; none cost nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOptions(Option<Arc<[SocketOption]>>);

impl SocketOptions {
    /// From a list at `path`. Errors: an option that we do not know, a value that it does not take.
    pub fn from_proto(messages: &[pb::SocketOption], path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let (mut options, mut problems) = (Vec::with_capacity(messages.len()), Vec::new());
        for (index, message) in messages.iter().enumerate() {
            match SocketOption::from_proto(message, &path.index(index)) {
                Ok(option) => options.push(option),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self((!options.is_empty()).then(|| options.into())))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Sets those that are for this state and this kind of socket, in their order. Error: the first that the system
    /// refuses, named by its level and name; those behind it are not set.
    pub fn set(&self, when: When, kind: SocketKind, socket: &Socket) -> io::Result<()> {
        let Some(options) = &self.0 else { return Ok(()) };
        let mut options = options.iter().filter(|option| option.when == when && option.is_for(kind));
        options.try_for_each(|option| option.set(socket).map_err(|error| option.failed(&error)))
    }
}

/// One of `socket_options`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SocketOption {
    when: When,
    /// `type`: whether it is for datagram sockets, or not; absent for both.
    datagram: Option<bool>,
    /// `ip_version`: whether it is for IPv6, or not; absent for both.
    v6: Option<bool>,
    /// Its place in [`KNOWN`].
    known: &'static Known,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u32),
    Octets(Box<[u8]>),
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
    Device,
    BusyPoll,
    Tos,
    Ttl,
    TrafficClass,
    Hops,
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
    Congestion,
    UserTimeout,
    NotSentLowat,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    level: i64,
    name: i64,
    kind: Kind,
}

const fn known(level: i64, name: i64, kind: Kind) -> Known {
    Known { level, name, kind }
}

/// Linux's numbers.
static KNOWN: [Known; 25] = [
    known(1, 2, Kind::ReuseAddress),
    known(1, 7, Kind::SendBuffer),
    known(1, 8, Kind::ReceiveBuffer),
    known(1, 9, Kind::KeepAlive),
    known(1, 12, Kind::Priority),
    known(1, 25, Kind::Device),
    known(1, 36, Kind::Mark),
    known(1, 46, Kind::BusyPoll),
    known(0, 1, Kind::Tos),
    known(0, 2, Kind::Ttl),
    known(0, 15, Kind::FreeBind),
    known(0, 19, Kind::Transparent),
    known(41, 16, Kind::Hops),
    known(41, 67, Kind::TrafficClass),
    known(41, 75, Kind::TransparentV6),
    known(41, 78, Kind::FreeBindV6),
    known(6, 1, Kind::NoDelay),
    known(6, 2, Kind::MaxSegment),
    known(6, 4, Kind::KeepIdle),
    known(6, 5, Kind::KeepInterval),
    known(6, 6, Kind::KeepCount),
    known(6, 12, Kind::QuickAck),
    known(6, 13, Kind::Congestion),
    known(6, 18, Kind::UserTimeout),
    known(6, 25, Kind::NotSentLowat),
];

/// Octets of the name of an interface or a congestion control (IFNAMSIZ, TCP_CA_NAME_MAX), without the zero behind it.
const MAX_NAME: usize = 15;

impl Kind {
    /// Whether its value is a name and not a number.
    fn is_named(self) -> bool {
        matches!(self, Self::Device | Self::Congestion)
    }

    fn value(self, message: Option<&socket_option::Value>, path: &Path) -> Result<Value, Diagnostic> {
        use socket_option::Value::{BufValue, IntValue};
        let error = |field: &str, text: &str| Err(Diagnostic::error(path.field(field), text));
        match message {
            None => Err(Diagnostic::error(path, "a value is required")),
            Some(IntValue(_)) if self.is_named() => error("int_value", "this option takes a name, as buf_value"),
            Some(BufValue(name)) if self.is_named() => {
                let name = name.strip_suffix(&[0]).unwrap_or(name);
                if name.is_empty() || name.len() > MAX_NAME {
                    return error("buf_value", "this option takes a name of 1 to 15 octets");
                }
                Ok(Value::Octets(name.into()))
            }
            Some(IntValue(value)) => self.number(*value, &path.field("int_value")),
            Some(BufValue(octets)) => match <[u8; 4]>::try_from(octets.as_slice()) {
                Ok(octets) if self == Self::Mark => Ok(Value::Number(u32::from_ne_bytes(octets))),
                Ok(octets) => self.number(i32::from_ne_bytes(octets).into(), &path.field("buf_value")),
                Err(_) => error("buf_value", "this option takes four octets"),
            },
        }
    }

    fn number(self, value: i64, path: &Path) -> Result<Value, Diagnostic> {
        // The kernel's type is `int`, but a mark has 32 bits, all of which are used.
        let limit = if self == Self::Mark { u32::MAX } else { i32::MAX.unsigned_abs() };
        match u32::try_from(value) {
            Ok(number) if number <= limit => Ok(Value::Number(number)),
            _ => Err(Diagnostic::error(path, format!("{value} is out of range"))),
        }
    }
}

impl SocketOption {
    fn from_proto(message: &pb::SocketOption, path: &Path) -> Result<Self, Diagnostic> {
        let Some(known) = KNOWN.iter().find(|known| (known.level, known.name) == (message.level, message.name)) else {
            let message = format!("socket option level {} name {} is not supported", message.level, message.name);
            return Err(Diagnostic::error(path.field("name"), message));
        };
        let value = known.kind.value(message.value.as_ref(), path)?;
        let when = match message.state() {
            SocketState::StatePrebind => When::BeforeBind,
            SocketState::StateBound => When::Bound,
            SocketState::StateListening => When::Listening,
        };
        let datagram = match &message.r#type {
            Some(kind) if kind.stream.is_some() => Some(false),
            Some(kind) if kind.datagram.is_some() => Some(true),
            _ => None,
        };
        let v6 = match message.ip_version() {
            SocketIpVersion::Unspecified => None,
            SocketIpVersion::Ipv4 => Some(false),
            SocketIpVersion::Ipv6 => Some(true),
        };
        Ok(Self { when, datagram, v6, known, value })
    }

    fn is_for(&self, kind: SocketKind) -> bool {
        self.datagram.is_none_or(|datagram| datagram == kind.datagram) && self.v6.is_none_or(|v6| kind.v6 == Some(v6))
    }

    fn set(&self, socket: &Socket) -> io::Result<()> {
        match &self.value {
            Value::Number(number) => set_number(self.known.kind, *number, socket),
            Value::Octets(name) if self.known.kind == Kind::Device => socket.bind_device(Some(name)),
            Value::Octets(name) => socket.set_tcp_congestion(name),
        }
    }

    fn failed(&self, error: &io::Error) -> io::Error {
        let Known { level, name, .. } = self.known;
        io::Error::new(error.kind(), format!("socket option level {level} name {name}: {error}"))
    }
}

fn set_number(kind: Kind, number: u32, socket: &Socket) -> io::Result<()> {
    let on = number != 0;
    let size = usize::try_from(number).unwrap_or(usize::MAX);
    let seconds = Duration::from_secs(u64::from(number));
    match kind {
        // Their values are names.
        Kind::Device | Kind::Congestion => Ok(()),
        Kind::KeepAlive => socket.set_keepalive(on),
        Kind::SendBuffer => socket.set_send_buffer_size(size),
        Kind::ReceiveBuffer => socket.set_recv_buffer_size(size),
        Kind::Priority => socket.set_priority(number),
        Kind::Mark => socket.set_mark(number),
        Kind::ReuseAddress => socket.set_reuse_address(on),
        Kind::BusyPoll => socket.set_busy_poll(number),
        Kind::Tos => socket.set_tos_v4(number),
        Kind::Ttl => socket.set_ttl_v4(number),
        Kind::Hops => socket.set_unicast_hops_v6(number),
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

#[cfg(test)]
mod tests;
