//! Internal listeners of one worker, as its clusters reach them.

use std::sync::Arc;

use adit_filter::BoxFuture;
use adit_filter::upstream::FailureKind;
use adit_internal::{ConnectError, InternalListeners, Passed};
use adit_io::Io;
use adit_upstream::{InternalConnector, InternalDial, TransportError};

/// The registry of one worker.
pub(crate) struct Registry(pub(crate) InternalListeners);

impl InternalConnector for Registry {
    fn connect<'a>(&'a self, dial: InternalDial<'a>) -> BoxFuture<'a, Result<Io, TransportError>> {
        let passed = Passed { hops: dial.hops, state: dial.state, metadata: dial.metadata };
        let result = self.0.connect(dial.listener, &Arc::from(dial.endpoint_id), passed);
        Box::pin(async move {
            result.map_err(|error| {
                let kind = match &error {
                    ConnectError::TooManyHops { .. } => FailureKind::Loop,
                    _ => FailureKind::Remote,
                };
                TransportError { kind, reason: error.to_string(), refusal: None }
            })
        })
    }
}
