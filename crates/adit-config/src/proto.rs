//! Envoy's messages as prost types, one module per package: `proto::envoy::config::listener::v3::Listener`.
//!
//! Made by `cargo xtask protos`; `google.protobuf` types are those of [`prost_types`], and wrappers are options.

#![allow(missing_docs, rustdoc::all, clippy::all, clippy::pedantic)]

include!("gen/mod.rs");
