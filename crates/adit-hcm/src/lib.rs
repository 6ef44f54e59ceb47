//! HTTP connection manager
