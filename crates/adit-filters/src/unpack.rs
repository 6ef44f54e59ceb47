//! From an `Any` to a message.

use adit_config::proto::envoy::config::core::v3::DataSource;
use adit_match::ConfigError;
use prost::Name;
use prost_types::Any;

pub(crate) fn unpack<T: Name + Default>(any: &Any, path: &str) -> Result<T, ConfigError> {
    adit_config::unpack(any).map_err(|error| ConfigError::new(path, error.to_string()))
}

pub(crate) fn read(source: &DataSource, path: &str) -> Result<Vec<u8>, ConfigError> {
    adit_config::read_data_source(source).map_err(|error| ConfigError::new(path, error.to_string()))
}

/// Refuses the first of these fields that is set.
pub(crate) fn refuse(path: &str, fields: &[(bool, &str)]) -> Result<(), ConfigError> {
    match fields.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(ConfigError::unsupported(format!("{path}.{field}"))),
        None => Ok(()),
    }
}
