//! Where a redirected connection was going (`envoy.filters.listener.original_dst`).

use std::net::SocketAddr;
use std::sync::Arc;

use adit_filter::{BoxFuture, ListenerFilter, ListenerFilterVerdict};
use adit_io::{Address, FilterValue, Io};
use socket2::SockRef;

/// For an internal connection, which no firewall redirects, the address is the filter state's.
const STATE_KEY: &str = "envoy.filters.listener.original_dst.local_ip";

/// Restores the address that a connection was sent to before the firewall redirected it here (`SO_ORIGINAL_DST`).
#[derive(Debug, Clone, Copy)]
pub struct OriginalDst;

impl ListenerFilter for OriginalDst {
    fn accept<'a>(&'a self, io: &'a mut Io) -> BoxFuture<'a, ListenerFilterVerdict> {
        if let Some(original) = original(io) {
            Arc::make_mut(&mut io.info).local = original;
        }
        Box::pin(std::future::ready(ListenerFilterVerdict::Continue))
    }
}

fn original(io: &Io) -> Option<Address> {
    if let Some(socket) = io.tcp_socket() {
        let socket = SockRef::from(&**socket);
        let address = if io.info.local.ip()?.is_ipv6() { socket.original_dst_v6() } else { socket.original_dst_v4() };
        return address.ok()?.as_socket().map(Address::Ip);
    }
    match &io.state.get(STATE_KEY)?.value {
        FilterValue::Address(address) => Some(address.clone()),
        FilterValue::Text(text) => text.parse::<SocketAddr>().ok().map(Address::Ip),
        _ => None,
    }
}
