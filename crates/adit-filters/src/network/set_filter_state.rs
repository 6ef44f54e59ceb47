//! `envoy.filters.network.set_filter_state`.

use adit_config::proto::envoy::extensions::filters::network::set_filter_state::v3 as pb;
use adit_filter::{BoxFuture, Connection, LogContext, NetworkFilter, NetworkVerdict};
use adit_match::ConfigError;

use crate::filter_state::StateValue;
use crate::unpack::refuse;

pub(super) struct Filter {
    on_connection: Vec<StateValue>,
    on_handshake: Vec<StateValue>,
}

impl Filter {
    pub fn new(message: &pb::Config, path: &str) -> Result<Self, ConfigError> {
        refuse(path, &[(!message.on_downstream_data.is_empty(), "on_downstream_data")])?;
        let list = |values: &[_], field: &str| StateValue::list(values, &format!("{path}.{field}"));
        Ok(Self {
            on_connection: list(&message.on_new_connection, "on_new_connection")?,
            on_handshake: list(&message.on_downstream_tls_handshake, "on_downstream_tls_handshake")?,
        })
    }
}

impl NetworkFilter for Filter {
    fn on_connection<'a>(&'a self, connection: &'a mut Connection) -> BoxFuture<'a, NetworkVerdict> {
        // The chain begins when the handshake is over, so both moments are now.
        let handshake = connection.io.info.tls.is_some().then_some(&self.on_handshake);
        for value in self.on_connection.iter().chain(handshake.into_iter().flatten()) {
            let info = connection.stream_info();
            if let Some(object) = value.evaluate(&LogContext::new(&info)) {
                value.set(object, &mut connection.io.state);
            }
        }
        Box::pin(std::future::ready(NetworkVerdict::Continue))
    }
}
