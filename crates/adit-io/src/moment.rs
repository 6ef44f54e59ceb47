//! Times in eight bytes, for what every idle tunnel holds.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// Where moments count from: long enough before the first for a test's clock, which may be behind.
static BASE: OnceLock<Instant> = OnceLock::new();
const BEFORE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A moment of tokio's clock, to the nanosecond and for 500 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    pub(crate) fn now() -> Self {
        Instant::now().into()
    }

    /// So much later, or as late as can be told.
    pub(crate) fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0.get()))
    }

    pub(crate) fn instant(self) -> Instant {
        BASE.get().copied().unwrap_or_else(Instant::now) + Duration::from_nanos(self.0.get() - 1)
    }
}

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let since = at.saturating_duration_since(base(at));
        Self(NonZeroU64::MIN.saturating_add(nanos(since)))
    }
}

/// A duration of at least a nanosecond, for 500 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(NonZeroU64);

impl From<Duration> for Span {
    fn from(time: Duration) -> Self {
        Self(NonZeroU64::new(nanos(time)).unwrap_or(NonZeroU64::MIN))
    }
}

fn base(now: Instant) -> Instant {
    *BASE.get_or_init(|| now.checked_sub(BEFORE).unwrap_or(now))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
