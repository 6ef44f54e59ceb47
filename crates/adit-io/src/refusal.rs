//! Why the far side of an internal connection refused it.

use std::sync::{Arc, OnceLock};

/// What an inner listener's terminal tells the side that connected to it, before it resets the connection: so that a 403
/// of a far proxy is a 403 outside and not a bare close.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The status of the answer that refused, where one came.
    pub status: Option<u16>,
    /// Envoy's response flags, as the bits of whoever defines them.
    pub flags: u64,
    /// Response-code details, such as `upstream_reset_before_response_started{connection_failure}`.
    pub details: Box<str>,
}

/// Where a [`Refusal`] is left and found, shared by the two ends of an internal connection. The first one stays.
#[derive(Debug, Clone, Default)]
pub struct RefusalSlot(Arc<OnceLock<Refusal>>);

impl RefusalSlot {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves a refusal; without effect if there is one. To be called before the connection is reset.
    pub fn set(&self, refusal: Refusal) {
        // The first one is the cause, later ones follow from it.
        let _ = self.0.set(refusal);
    }

    /// The refusal, if there is one.
    pub fn get(&self) -> Option<&Refusal> {
        self.0.get()
    }
}
