//! The `date` field, formatted once a second for each thread (RFC 9110 section 6.6.1).

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

thread_local! {
    static LAST: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
}

/// Now, as `date` has it.
pub(crate) fn now() -> Option<HeaderValue> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(at, value)| {
        if *at != seconds || value.is_none() {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            *value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok();
            *at = seconds;
        }
        value.clone()
    })
}
