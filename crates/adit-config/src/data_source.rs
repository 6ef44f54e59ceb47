use std::fmt;

use crate::proto::envoy::config::core::v3::DataSource;
use crate::proto::envoy::config::core::v3::data_source::Specifier;

/// Octets that a data source may have: a bundle of certificates is far below.
const MAX_BYTES: u64 = 64 << 20;

/// Why a data source gave nothing.
#[derive(Debug)]
pub enum DataSourceError {
    /// No member of its oneof is set.
    Unset,
    /// The file cannot be read.
    File(String, std::io::Error),
    /// The file is longer than 64 MiB.
    TooLong(String),
    /// The environment has no such variable.
    Variable(String),
}

impl fmt::Display for DataSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => {
                f.write_str("a data source needs a filename, inline_bytes, inline_string or environment_variable")
            }
            Self::File(name, error) => write!(f, "{name} cannot be read: {error}"),
            Self::TooLong(name) => write!(f, "{name} is longer than {MAX_BYTES} octets"),
            Self::Variable(name) => write!(f, "environment variable {name} is not set"),
        }
    }
}

impl std::error::Error for DataSourceError {}

/// What an `envoy.config.core.v3.DataSource` holds. A file name is relative to the working directory.
///
/// # Errors
/// If there is nothing to read, or it cannot be read.
pub fn read_data_source(source: &DataSource) -> Result<Vec<u8>, DataSourceError> {
    match source.specifier.as_ref().ok_or(DataSourceError::Unset)? {
        Specifier::InlineBytes(bytes) => Ok(bytes.clone()),
        Specifier::InlineString(text) => Ok(text.clone().into_bytes()),
        Specifier::EnvironmentVariable(name) => {
            let value = std::env::var_os(name).ok_or_else(|| DataSourceError::Variable(name.clone()))?;
            Ok(value.into_encoded_bytes())
        }
        Specifier::Filename(name) => {
            use std::io::Read as _;
            let failed = |error| DataSourceError::File(name.clone(), error);
            let mut bytes = Vec::new();
            let file = std::fs::File::open(name).map_err(failed)?;
            file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 > MAX_BYTES {
                return Err(DataSourceError::TooLong(name.clone()));
            }
            Ok(bytes)
        }
    }
}
