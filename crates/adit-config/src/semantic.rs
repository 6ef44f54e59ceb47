use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::{Diagnostic, LoadOptions};
pub(crate) fn check(_b: &Bootstrap, _o: &LoadOptions) -> Vec<Diagnostic> { Vec::new() }
