//! What is wrong with a message, and where.

use std::fmt;

/// A field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the field from where the caller's own path began.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// A field that is not implemented.
    pub fn unsupported(path: impl Into<String>) -> Self {
        Self::new(path, "not supported")
    }

    /// A required field that is missing.
    pub fn missing(path: impl Into<String>) -> Self {
        Self::new(path, "value is required")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for ConfigError {}
