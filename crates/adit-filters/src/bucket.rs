//! A token bucket for all workers, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_config::proto::envoy::r#type::v3 as pb;
use adit_match::ConfigError;

/// The shortest `fill_interval`.
const MIN_FILL: Duration = Duration::from_millis(50);

/// `TokenBucket`: starts full and fills evenly over time.
///
/// What is stored is not a number of tokens but the moment at which the bucket would have been empty: one word, moved on
/// by each token taken.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    origin: Instant,
    /// Nanoseconds, 0 being one whole filling before `origin`.
    empty_at: AtomicU64,
    /// Nanoseconds that one token takes to fill.
    per_token: u64,
    /// Nanoseconds that the whole bucket takes to fill.
    whole: u64,
}

impl TokenBucket {
    pub fn from_proto(message: &pb::TokenBucket, path: &str) -> Result<Self, ConfigError> {
        let per_fill = message.tokens_per_fill.unwrap_or(1);
        if per_fill == 0 {
            return Err(ConfigError::new(format!("{path}.tokens_per_fill"), "must be greater than 0"));
        }
        let interval = message.fill_interval.as_ref().map(adit_config::duration);
        let interval = interval.filter(|interval| *interval >= MIN_FILL).ok_or_else(|| {
            ConfigError::new(
                format!("{path}.fill_interval"),
                "local rate limit token bucket fill timer must be >= 50ms",
            )
        })?;
        Ok(Self::new(message.max_tokens, interval / per_fill, Instant::now()))
    }

    fn new(max: u32, per_token: Duration, now: Instant) -> Self {
        let per_token = u64::try_from(per_token.as_nanos()).unwrap_or(u64::MAX).max(1);
        let whole = per_token.saturating_mul(u64::from(max));
        Self { origin: now, empty_at: AtomicU64::new(0), per_token, whole }
    }

    /// Takes a token, if there is one.
    pub fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        // Time starts when a bucket that was empty at 0 is full, so that there is no moment before it.
        let fullest = u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        let now = fullest.saturating_add(self.whole);
        let next = |empty_at: u64| {
            let moved = empty_at.max(fullest).saturating_add(self.per_token);
            (moved <= now).then_some(moved)
        };
        self.empty_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_full_at_first_and_fills_evenly() {
        let start = Instant::now();
        let bucket = TokenBucket::new(3, Duration::from_millis(100), start);
        let take = |ms: u64| (0..5).filter(|_| bucket.take_at(start + Duration::from_millis(ms))).count();
        assert_eq!(take(0), 3);
        assert_eq!(take(99), 0);
        assert_eq!(take(100), 1);
        assert_eq!(take(350), 2);
        assert_eq!(take(100_000), 3);
        // `max_tokens: 0` lets nothing through.
        assert!(!TokenBucket::new(0, Duration::from_millis(100), start).take_at(start + Duration::from_secs(9)));
    }
}
