//! Original destinations: the host is where the request or the connection says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use adit_filter::upstream::Need;
use adit_io::{Address, FilterValue, Value};

use crate::cluster::SharedCluster;
use crate::host::HostState;
use crate::plan::OriginalDstPlan;

const STATE_KEY: &str = "envoy.network.transport_socket.original_dst_address";

/// The host of a need; `None` where it names none, or not by address.
///
/// In Envoy's order: the caller's own address, the HTTP field, filter state, metadata, the restored local address.
pub(crate) fn pick(shared: &Arc<SharedCluster>, plan: &OriginalDstPlan, need: &Need<'_>) -> Option<Arc<HostState>> {
    let mut address = match destination(plan, need) {
        Ok(address) => address?,
        Err(Invalid) => {
            shared.core().stats.traffic.original_dst_host_invalid.inc();
            return None;
        }
    };
    if let Some(port) = plan.port {
        address.set_port(port);
    }
    if address.port() == 0 || !is_a_destination(address.ip()) {
        shared.core().stats.traffic.original_dst_host_invalid.inc();
        return None;
    }
    shared.original(address, plan.limit.as_ref())
}

/// Whether it can be one host: the unspecified address would be this machine (RFC 1122 section 3.2.1.3, RFC 4291 section
/// 2.5.2), which a policy that keeps loopback back does not expect.
fn is_a_destination(ip: IpAddr) -> bool {
    let canonical = ip.to_canonical();
    let broadcast = matches!(canonical, IpAddr::V4(v4) if v4.is_broadcast());
    !(canonical.is_unspecified() || canonical.is_multicast() || broadcast)
}

/// An address as a peer wrote it.
fn written(text: &str) -> Result<SocketAddr, Invalid> {
    plain(text.parse().map_err(|_| Invalid)?)
}

/// IPv4 within IPv6 is a second spelling of an address that a policy knows by its first. Only the local address of a connection,
/// which no peer names, may be one.
fn plain(address: SocketAddr) -> Result<SocketAddr, Invalid> {
    if address.ip().to_canonical() == address.ip() { Ok(address) } else { Err(Invalid) }
}

/// What stands there is no address.
struct Invalid;

fn destination(plan: &OriginalDstPlan, need: &Need<'_>) -> Result<Option<SocketAddr>, Invalid> {
    if let Some(address) = need.address {
        return plain(address).map(Some);
    }
    if plan.resolved {
        return match need.state.get(STATE_KEY).map(|object| &object.value) {
            Some(FilterValue::Address(Address::Ip(address))) => plain(*address).map(Some),
            _ => Ok(None),
        };
    }
    if let Some(header) = &plan.header
        && let Some(value) = need.request.and_then(|request| request.field(header))
    {
        return std::str::from_utf8(&value).map_err(|_| Invalid).and_then(|text| written(text.trim())).map(Some);
    }
    if let Some(object) = need.state.get(STATE_KEY) {
        return match &object.value {
            FilterValue::Address(Address::Ip(address)) => plain(*address).map(Some),
            FilterValue::Text(text) => written(text).map(Some),
            _ => Err(Invalid),
        };
    }
    if let Some((namespace, path)) = &plan.metadata
        && let Some(value) = need.metadata.get(namespace).and_then(|value| value.walk(path.iter().map(|step| &**step)))
    {
        return match value {
            Value::String(text) => written(text).map(Some),
            _ => Err(Invalid),
        };
    }
    Ok(need.downstream.and_then(|info| info.local.socket()))
}
