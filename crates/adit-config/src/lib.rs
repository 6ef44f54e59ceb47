//! Envoy v3 YAML and JSON to checked, typed messages

pub mod proto;
