//! Envoy v3 YAML and JSON to checked, typed messages.
//!
//! Floor F0: no runtime, no clock, no socket. It reads files, because a configuration names files.
//!
//! [`load`] takes the text through these steps, each reporting all that it finds, with file, line and path:
//!
//! 1. `yaml`: text to a tree in which each node knows its line; bombs are refused here.
//! 2. `bind`: tree to message, by Envoy's own descriptors (`descriptor.bin`): names in either spelling, durations, enums,
//!    oneofs, `@type`. Several sources are merged as protobuf merges.
//! 3. `walk`: every rule of the schema (`rules`), every field against `supported.txt`, deprecated fields.
//! 4. `normalize`: deprecated forms become the ones that replaced them, so that readers know only one.
//! 5. `semantic`: what no single field shows: names that lead nowhere, duplicates, filter order, files.
//!
//! What comes out is the [`Bootstrap`](proto::envoy::config::bootstrap::v3::Bootstrap) message in prost types. The crates
//! that own a message turn it into their own structures; a crate that finds more to object to makes a [`Diagnostic`] with
//! a [`Path`] and has [`Locations::resolve`] add the line.
//!
//! ```
//! use adit_config::{LoadOptions, Source, load};
//!
//! let refused = load(&[Source::new("a.yaml", "admin:\n  adress: {}\n")], &LoadOptions::default()).unwrap_err();
//! assert_eq!(
//!     refused.to_string(),
//!     "a.yaml: line 2: admin.adress: unknown field 'adress' in envoy.config.bootstrap.v3.Admin; \
//!      did you mean 'address'?"
//! );
//! ```
//!
//! # What is supported
//! A field that adit does not implement is refused, so that nobody believes in something that does nothing. The list of
//! what it implements is `src/supported.txt`, one message a line; whoever implements a field adds it there.
//!
//! # What it deliberately does not know
//! What a listener, a filter or a cluster does, defaults, and anything about running. The generated types (`proto`) and
//! the descriptor set are made by `cargo xtask protos` and never edited.
//!
//! Read first: [`load`], [`Loaded`], [`Diagnostic`].

mod bind;
mod data_source;
mod diagnostic;
mod load;
mod locations;
mod normalize;
mod path;
pub mod proto;
mod rules;
mod schema;
mod semantic;
mod unpack;
mod walk;
mod yaml;

pub use data_source::{DataSourceError, read_data_source};
pub use diagnostic::{ConfigError, Diagnostic, Report, Severity};
pub use load::{LoadOptions, Loaded, Source, load};
pub use locations::Locations;
pub use path::Path;
pub use unpack::{
    UnpackError, duration, is, json_to_value, pack, struct_to_json, to_json, type_name, unpack, value_to_json,
};
