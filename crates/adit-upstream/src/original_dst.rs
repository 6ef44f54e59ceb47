//! Original destinations: the host is where the request or the connection says.

use std::net::SocketAddr;
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
    if address.port() == 0 {
        shared.core().stats.traffic.original_dst_host_invalid.inc();
        return None;
    }
    let host = shared.original(address);
    Some(host)
}

/// What stands there is no address.
struct Invalid;

fn destination(plan: &OriginalDstPlan, need: &Need<'_>) -> Result<Option<SocketAddr>, Invalid> {
    if let Some(address) = need.address {
        return Ok(Some(address));
    }
    if let Some(header) = &plan.header
        && let Some(value) = need.request.and_then(|request| request.field(header))
    {
        return std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse().ok()).map(Some).ok_or(Invalid);
    }
    if let Some(object) = need.state.get(STATE_KEY) {
        return match &object.value {
            FilterValue::Address(Address::Ip(address)) => Ok(Some(*address)),
            FilterValue::Text(text) => text.parse().map(Some).map_err(|_| Invalid),
            _ => Err(Invalid),
        };
    }
    if let Some((namespace, path)) = &plan.metadata
        && let Some(value) = need.metadata.get(namespace).and_then(|value| value.walk(path.iter().map(|step| &**step)))
    {
        return match value {
            Value::String(text) => text.parse().map(Some).map_err(|_| Invalid),
            _ => Err(Invalid),
        };
    }
    Ok(need.downstream.and_then(|info| info.local.socket()))
}
