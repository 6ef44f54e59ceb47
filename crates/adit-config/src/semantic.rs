//! What no single field shows: names that lead nowhere, duplicates, the order of filters, files.
//!
//! Works on the normalized configuration. Each part reports with paths; the loader adds the lines.

mod bootstrap;
mod clusters;
mod files;
mod filters;
mod headers;
mod http;
mod listeners;
mod routes;
mod tcp;

use std::collections::HashSet;

use prost_reflect::DynamicMessage;

use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::proto::envoy::config::listener::v3::listener::ListenerSpecifier;
use crate::proto::envoy::extensions::bootstrap::internal_listener::v3::InternalListener;
use crate::{Diagnostic, LoadOptions, Path, is};

/// All findings. `message` is the same configuration as `bootstrap`.
pub(crate) fn check(bootstrap: &Bootstrap, message: &DynamicMessage, options: &LoadOptions) -> Vec<Diagnostic> {
    let mut whole = Whole::new(bootstrap);
    if let Some(resources) = &bootstrap.static_resources {
        let here = Path::root().field("static_resources");
        clusters::check(&mut whole, &resources.clusters, &here);
        listeners::check(&mut whole, &resources.listeners, &here);
    }
    bootstrap::check(&mut whole, bootstrap, message);
    headers::check(&mut whole, message);
    if options.check_files {
        files::check(&mut whole, message);
    }
    whole.findings
}

/// What one part must know of the others, and what was found.
struct Whole {
    clusters: HashSet<String>,
    internal_listeners: HashSet<String>,
    /// Whether the bootstrap extension for internal listeners is there.
    internal_enabled: bool,
    findings: Vec<Diagnostic>,
}

impl Whole {
    fn new(bootstrap: &Bootstrap) -> Self {
        let resources = bootstrap.static_resources.as_ref();
        let clusters = resources.map(|all| all.clusters.iter().map(|cluster| cluster.name.clone()).collect());
        let internal = resources.map(|all| {
            let internal = all
                .listeners
                .iter()
                .filter(|one| matches!(one.listener_specifier, Some(ListenerSpecifier::InternalListener(_))));
            internal.map(|listener| listener.name.clone()).collect()
        });
        let internal_enabled = bootstrap
            .bootstrap_extensions
            .iter()
            .any(|extension| extension.typed_config.as_ref().is_some_and(is::<InternalListener>));
        Self {
            clusters: clusters.unwrap_or_default(),
            internal_listeners: internal.unwrap_or_default(),
            internal_enabled,
            findings: Vec::new(),
        }
    }

    fn error(&mut self, path: &Path, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(path, message));
    }

    fn warning(&mut self, path: &Path, message: impl Into<String>) {
        self.findings.push(Diagnostic::warning(path, message));
    }
}
