//! The time of day, and the `date` field, which is formatted once a second for each thread (RFC 9110 section 6.6.1).

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use tokio::time::Instant;

/// The system's clock is asked this often.
const ASKED: Duration = Duration::from_secs(1);

thread_local! {
    static ANCHOR: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    static LAST: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
}

/// The time of day at a moment that is now, or just was. The system's clock is asked once a second for each thread, and
/// followed by the monotonic one in between: where it is set anew, that is seen up to a second later.
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
    let seconds = time_of_day(now).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(at, value)| {
        if *at != seconds || value.is_none() {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            *value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok();
            *at = seconds;
        }
        value.clone()
    })
}
