#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn learn(cache: &AlternateProtocols, host: &str, value: &str, now: Instant) {
    let mut headers = HeaderMap::new();
    headers.insert("alt-svc", value.parse().unwrap());
    cache.learn(host, 443, &headers, now);
}

#[tokio::test]
async fn only_http3_at_the_same_place_is_taken() {
    let now = Instant::now();
    for (value, taken) in [
        ("h3=\":443\"", true),
        ("h3=\":443\"; ma=60; persist=1", true),
        ("h2=\":443\", h3=\":443\"; ma=60", true),
        ("h3-29=\":443\"", false),
        ("h3=\":8443\"", false),
        ("h3=\"A.example:443\"", true),
        ("h3=\"b.example:443\"", false),
        ("h3=\":443\"; ma=0", false),
        ("h3=\":443\"; ma=x", false),
        ("h3=:443", false),
        ("h3=\"443\"", false),
        ("=,;=\"", false),
        ("clear", false),
    ] {
        let cache = AlternateProtocols::new(4, []);
        learn(&cache, "a.example", value, now);
        assert_eq!(cache.usable("a.example", 443, now), taken, "{value}");
    }
}

#[tokio::test]
async fn what_was_learned_ends_and_is_taken_back() {
    let cache = AlternateProtocols::new(4, [("p.example".to_owned(), 443)]);
    let now = Instant::now();
    learn(&cache, "a.example", "h3=\":443\"; ma=60", now);
    assert!(!cache.usable("a.example", 443, now + Duration::from_secs(60)));
    learn(&cache, "a.example", "clear", now);
    learn(&cache, "p.example", "clear", now);
    assert!(!cache.usable("a.example", 443, now));
    assert!(cache.usable("p.example", 443, now) && !cache.usable("p.example", 444, now));
    cache.learn("p.example", 443, &HeaderMap::new(), now);
    assert!(cache.usable("p.example", 443, now));
}

#[tokio::test]
async fn a_failure_lasts_and_doubles_until_it_works() {
    let cache = AlternateProtocols::new(4, [("p.example".to_owned(), 443)]);
    let now = Instant::now();
    cache.failed("p.example", 443, now);
    assert!(!cache.usable("p.example", 443, now + BROKEN - Duration::from_millis(1)));
    assert!(cache.usable("p.example", 443, now + BROKEN));
    cache.failed("p.example", 443, now);
    assert!(!cache.usable("p.example", 443, now + BROKEN) && cache.usable("p.example", 443, now + BROKEN * 2));
    for _ in 0..100 {
        cache.failed("p.example", 443, now);
    }
    assert!(cache.usable("p.example", 443, now + MAX_BROKEN));
    cache.works("p.example", 443);
    assert!(cache.usable("p.example", 443, now));
    cache.slow("p.example", 443, now + Duration::from_secs(1));
    assert!(!cache.usable("p.example", 443, now) && cache.usable("p.example", 443, now + Duration::from_secs(1)));
}

#[tokio::test]
async fn it_holds_no_more_than_it_may() {
    let cache = AlternateProtocols::new(3, [("p.example".to_owned(), 443)]);
    let now = Instant::now();
    for (host, age) in [("a", 50), ("b", 60), ("c", 70)] {
        learn(&cache, host, &format!("h3=\":443\"; ma={age}"), now);
    }
    let known = ["a", "b", "c", "p.example"].map(|host| cache.usable(host, 443, now));
    assert_eq!(known, [false, true, true, true]);
}
