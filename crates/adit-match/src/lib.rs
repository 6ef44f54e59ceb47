//! Envoy's matchers: strings, headers, query parameters, addresses, metadata, fractions and RBAC.
//!
//! Each is made once from its message, with a [`ConfigError`] that names the field, and is then asked without allocating.
//!
//! Deliberately unknown here: routes, filters, stats, what follows from a match.
//!
//! Read first: [`StringMatcher`], [`HeaderMatcher`], [`rbac::Engine`].
//!
//! Floor F2: above adit-filter, without tasks or sockets.

mod address;
pub mod certificate;
mod error;
mod fraction;
mod header;
mod query;
pub mod rbac;
mod string;
mod value;

pub use address::{CidrRange, CidrSet};
pub use error::ConfigError;
pub use fraction::Fraction;
pub use header::HeaderMatcher;
pub use query::{PathMatcher, QueryParameterMatcher, first_query_value};
pub use string::{RegexMatcher, RegexSubstitution, StringMatcher};
pub use value::{FilterStateMatcher, MetadataMatcher, ValueMatcher};
