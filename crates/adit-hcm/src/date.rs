//! The time of day, and the `date` field, which is formatted once a second for each thread (RFC 9110 section 6.6.1).

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

/// The system's clock is asked this often.
const ASKED: Duration = Duration::from_secs(1);

thread_local! {
    static ANCHOR: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    static LAST: RefCell<Option<Dated>> = const { RefCell::new(None) };
}

/// A second of the clock, as `date` has it.
struct Dated {
    from: Instant,
    until: Instant,
    value: HeaderValue,
}

/// The time of day at a moment that is now, or just was. The system's clock is asked once a second for each thread, and
/// followed by the monotonic one in between: where it is set anew, that is seen up to two seconds later.
pub(crate) fn time_of_day(now: Instant) -> SystemTime {
    let since = |(at, time): (Instant, SystemTime)| Some((now.checked_duration_since(at)?, time));
    if let Some((since, time)) = ANCHOR.get().and_then(since)
        && since < ASKED
    {
        return time + since;
    }
    let time = SystemTime::now();
    ANCHOR.set(Some((now, time)));
    time
}

/// Such a moment, as `date` has it.
pub(crate) fn date(now: Instant) -> Option<HeaderValue> {
    LAST.with_borrow_mut(|last| {
        if let Some(dated) = last
            && dated.from <= now
            && now < dated.until
        {
            return Some(dated.value.clone());
        }
        let time = time_of_day(now).duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = Duration::from_secs(time.as_secs());
        let value = HeaderValue::from_maybe_shared(Bytes::from(httpdate::fmt_http_date(UNIX_EPOCH + second))).ok()?;
        let until = now + (Duration::from_secs(1) - Duration::from_nanos(time.subsec_nanos().into()));
        *last = Some(Dated { from: now, until, value: value.clone() });
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    /// As on a new thread: tests may share one.
    fn forget() {
        ANCHOR.set(None);
        LAST.set(None);
    }

    #[test]
    fn the_time_of_day_follows_the_monotonic_clock_for_a_second() {
        forget();
        let now = Instant::now();
        let time = time_of_day(now);
        assert!(SystemTime::now().duration_since(time).expect("not ahead") < Duration::from_secs(60));
        let later = Duration::from_millis(900);
        assert_eq!(time_of_day(now + later), time + later);
        // Then the system's clock is asked, which is not that far yet.
        assert!(time_of_day(now + ASKED) < time + ASKED);
    }

    #[test]
    fn a_date_is_that_of_its_second() {
        forget();
        let now = Instant::now();
        let time = time_of_day(now);
        let first = date(now).expect("a date");
        assert_eq!(first, httpdate::fmt_http_date(time).as_str());
        let second = time.duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
        let left = Duration::from_nanos(u64::from(1_000_000_000 - second));
        // The anchor may be older than the moment.
        assert_eq!(date(now + left.saturating_sub(Duration::from_nanos(1))).expect("a date"), first);
        assert_ne!(date(now + left).expect("a date"), first);
    }
}
