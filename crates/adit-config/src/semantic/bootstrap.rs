//! What stands at the top: the admin interface and the runtime's layers. And addresses wherever they are.

use std::collections::HashSet;
use std::net::IpAddr;

use prost_reflect::{DynamicMessage, ReflectMessage};

use super::Whole;
use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::proto::envoy::config::core::v3::address::Address;
use crate::proto::envoy::config::core::v3::socket_option::SocketState;
use crate::{Path, walk};

/// What the kernel takes as the path of a Unix socket, without the zero byte behind it.
const MAX_PIPE: usize = 107;

pub(super) fn check(whole: &mut Whole, bootstrap: &Bootstrap, message: &DynamicMessage) {
    admin(whole, bootstrap, &Path::root().field("admin").field("address"));
    let layers = bootstrap.layered_runtime.iter().flat_map(|runtime| &runtime.layers);
    let mut names = HashSet::new();
    for (index, layer) in layers.enumerate() {
        if !names.insert(layer.name.as_str()) {
            let here = Path::root().field("layered_runtime").item("layers", index).field("name");
            whole.error(&here, format!("Duplicate layer name: {}", layer.name));
        }
    }
    pipes(whole, message);
    upstream_options(whole, message);
}

/// Options of upstream sockets that are for a state which most of these sockets never have.
fn upstream_options(whole: &mut Whole, message: &DynamicMessage) {
    walk::visit(message, &Path::root(), &mut |message, path| {
        if message.descriptor().full_name() != "envoy.config.core.v3.BindConfig" {
            return;
        }
        let options = message.get_field_by_name("socket_options");
        for (index, option) in options.iter().filter_map(|options| options.as_list()).flatten().enumerate() {
            let state = option.as_message().and_then(|option| option.get_field_by_name("state")?.as_enum_number());
            if state.is_some_and(|state| state != SocketState::StatePrebind as i32) {
                let text = "set on the sockets of HTTP/3 only, as in Envoy; an option for all is STATE_PREBIND";
                whole.warning(&path.item("socket_options", index).field("state"), text);
            }
        }
    });
}

fn admin(whole: &mut Whole, bootstrap: &Bootstrap, path: &Path) {
    let address = bootstrap.admin.as_ref().and_then(|admin| admin.address.as_ref()?.address.as_ref());
    match address {
        None => {}
        // An empty one is refused by its own rule.
        Some(Address::SocketAddress(socket)) if socket.address.is_empty() => {}
        Some(Address::SocketAddress(socket)) => {
            let Err(_) = socket.address.parse::<IpAddr>() else { return };
            let here = path.field("socket_address").field("address");
            whole.error(&here, format!("malformed IP address: {}", socket.address));
        }
        Some(Address::Pipe(_) | Address::EnvoyInternalAddress(_)) => {
            whole.error(path, "the admin interface of adit has a socket_address");
        }
    }
}

fn pipes(whole: &mut Whole, message: &DynamicMessage) {
    walk::visit(message, &Path::root(), &mut |message, path| {
        if message.descriptor().full_name() != "envoy.config.core.v3.Pipe" {
            return;
        }
        let name = message.get_field_by_name("path");
        if name.is_some_and(|name| name.as_str().is_some_and(|name| name.len() > MAX_PIPE)) {
            let message = format!("the path of a Unix socket has at most {MAX_PIPE} bytes");
            whole.error(&path.field("path"), message);
        }
    });
}
