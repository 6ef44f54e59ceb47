//! Envoy's format strings, and what is made of them: access logs, header mutations, local replies.
//!
//! Deliberately unknown here: who serves the stream that is logged, when a line is due, what a route is.
//!
//! Read first: [`Format`], [`Sinks`] with [`build`], [`HeaderAdder`], [`LocalReplyMapper`].
//!
//! Floor F2: above adit-match. The only threads are those of [`Sinks`], one for each file, which write so that no worker
//! ever waits for a disk.

mod build;
mod filter;
mod format;
mod header_adder;
mod header_mutations;
mod json;
mod line;
mod local_reply;
mod sink;
#[cfg(test)]
mod testing;

pub use adit_match::ConfigError;
pub use build::build;
pub use filter::LogFilter;
pub use format::{DEFAULT_FORMAT, Format};
pub use header_adder::{HeaderAdder, HeaderChanges};
pub use header_mutations::HeaderMutations;
pub use line::LineFormat;
pub use local_reply::LocalReplyMapper;
pub use sink::{FileSink, SinkOptions, Sinks};
