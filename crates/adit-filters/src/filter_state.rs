//! `FilterStateValue`: filter state that a configuration sets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use adit_access_log::LineFormat;
use adit_config::proto::envoy::extensions::filters::common::set_filter_state::v3 as pb;
use adit_filter::LogContext;
use adit_io::{Address, FilterState, FilterValue, Sharing};
use adit_match::ConfigError;
use pb::filter_state_value::{Key, SharedWithUpstream, Value};

/// One object to set.
#[derive(Debug)]
pub(crate) struct StateValue {
    key: Box<str>,
    make: Factory,
    format: LineFormat,
    sharing: Sharing,
    skip_if_empty: bool,
}

/// Text to object; `None` for text that is no such object.
type Factory = fn(&str) -> Option<FilterValue>;

impl StateValue {
    pub fn list(messages: &[pb::FilterStateValue], path: &str) -> Result<Vec<Self>, ConfigError> {
        messages.iter().enumerate().map(|(index, one)| Self::from_proto(one, &format!("{path}[{index}]"))).collect()
    }

    #[expect(deprecated, reason = "read_only is refused")]
    fn from_proto(message: &pb::FilterStateValue, path: &str) -> Result<Self, ConfigError> {
        if message.read_only {
            return Err(ConfigError::unsupported(format!("{path}.read_only")));
        }
        let Some(Key::ObjectKey(key)) = &message.key else {
            return Err(ConfigError::missing(format!("{path}.object_key")));
        };
        let Some(Value::FormatString(format)) = &message.value else {
            return Err(ConfigError::missing(format!("{path}.format_string")));
        };
        let (name, field) =
            if message.factory_key.is_empty() { (key, "object_key") } else { (&message.factory_key, "factory_key") };
        if name == "envoy.network.upstream_subject_alt_names" {
            return Err(ConfigError::unsupported(format!("{path}.{field}")));
        }
        let make = factory(name).ok_or_else(|| {
            ConfigError::new(format!("{path}.{field}"), format!("'{name}' does not have an object factory"))
        })?;
        let sharing = match message.shared_with_upstream() {
            SharedWithUpstream::None => Sharing::None,
            SharedWithUpstream::Once => Sharing::Once,
            SharedWithUpstream::Transitive => Sharing::Transitive,
        };
        let format = LineFormat::from_proto(format, &format!("{path}.format_string"))?;
        Ok(Self { key: key.as_str().into(), make, format, sharing, skip_if_empty: message.skip_if_empty })
    }

    /// What it sets here; `None` for text that is no such object, and for empty text where that is to be skipped.
    pub fn evaluate(&self, context: &LogContext<'_>) -> Option<FilterValue> {
        let mut text = String::new();
        self.format.render_into(context, &mut text);
        if self.skip_if_empty && text.is_empty() {
            return None;
        }
        (self.make)(&text)
    }

    pub fn set(&self, value: FilterValue, state: &mut FilterState) {
        state.set(&self.key, value, self.sharing);
    }
}

fn factory(name: &str) -> Option<Factory> {
    let text: Factory = |text| Some(FilterValue::Text(Arc::from(text)));
    let flag: Factory = |text| text.parse().ok().map(FilterValue::Bool);
    let number: Factory = |text| text.parse().ok().map(FilterValue::Number);
    Some(match name {
        "envoy.string"
        | "envoy.hashable_string"
        | "envoy.tcp_proxy.cluster"
        | "envoy.upstream.dynamic_host"
        | "envoy.network.upstream_server_name"
        | "envoy.network.application_protocols" => text,
        "envoy.bool" | "envoy.tcp_proxy.disable_tunneling" | "envoy.tcp_proxy.receive_before_connect" => flag,
        "envoy.uint64" | "envoy.tcp_proxy.per_connection_idle_timeout_ms" => number,
        "envoy.upstream.dynamic_port" => {
            |text| text.parse::<u16>().ok().filter(|port| *port > 0).map(|port| FilterValue::Number(u64::from(port)))
        }
        "envoy.network.transport_socket.http_11_proxy.info" => |text| {
            let (target, proxy) = text.split_once(',')?;
            let valid = !target.trim_ascii().is_empty() && proxy.trim_ascii().parse::<SocketAddr>().is_ok();
            valid.then(|| FilterValue::Text(Arc::from(text)))
        },
        "envoy.network.ip"
        | "envoy.network.transport_socket.original_dst_address"
        | "envoy.filters.listener.original_dst.local_ip"
        | "envoy.filters.listener.original_dst.remote_ip" => address,
        _ => return None,
    })
}

/// `1.2.3.4:80`, or an address alone with port 0.
fn address(text: &str) -> Option<FilterValue> {
    let socket = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| (ip, 0).into()));
    socket.map(|socket| FilterValue::Address(Address::Ip(socket)))
}
