#![allow(clippy::unwrap_used)]
use std::sync::mpsc;

use adit_stats::Store;

use super::*;

fn cache(options: CacheOptions) -> (DnsCache, Store) {
    let store = Store::new(1);
    let cache = DnsCache::new(options, &store.root());
    (cache, store)
}

const V4: CacheOptions = CacheOptions {
    family: DnsFamily::V4Only,
    refresh: Duration::from_secs(60),
    ttl: Duration::from_secs(300),
    timeout: Duration::from_secs(5),
    max_hosts: 1024,
    max_pending: 1024,
};

#[tokio::test]
async fn addresses_need_no_lookup() {
    let (cache, _store) = cache(V4);
    for (host, address) in [("127.0.0.2", "127.0.0.2:53"), ("[::1]", "[::1]:53"), ("::1", "[::1]:53")] {
        assert_eq!(cache.resolve(host, 53).await, Ok(address.parse().unwrap()));
    }
    assert_eq!(cache.0.stats.attempt.value(), 0);
}

#[tokio::test]
async fn a_name_is_asked_for_once_until_it_is_old() {
    let (cache, _store) = cache(V4);
    for _ in 0..3 {
        assert_eq!(cache.resolve("LocalHost", 80).await, Ok("127.0.0.1:80".parse().unwrap()));
    }
    assert_eq!((cache.0.stats.attempt.value(), cache.0.stats.added.value()), (1, 1));
    let later = Instant::now() + Duration::from_secs(61);
    assert_eq!(cache.0.fresh("localhost", later), None);
}

#[tokio::test]
async fn a_name_without_an_address_fails() {
    let (cache, _store) = cache(V4);
    assert_eq!(cache.resolve("no-such-name.invalid", 80).await, Err(Unresolved::Failed));
    assert_eq!(cache.resolve("", 80).await, Err(Unresolved::Failed));
    assert_eq!(cache.0.stats.hosts.value(), 0);
}

#[tokio::test]
async fn names_and_questions_are_bounded() {
    let (cache, _store) = cache(CacheOptions { max_hosts: 2, ..V4 });
    let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
    let keep = |name: &str, at| cache.0.keep(name.into(), address, at);
    keep("a", now).unwrap();
    keep("b", now + Duration::from_secs(10)).unwrap();
    assert_eq!(keep("c", now + Duration::from_secs(11)), Err(Unresolved::CacheOverflow));
    // One that nobody used for so long makes room.
    keep("c", now + Duration::from_secs(301)).unwrap();
    assert_eq!((cache.0.stats.overflow.value(), cache.0.stats.removed.value()), (1, 1));
    let cache = self::cache(CacheOptions { max_pending: 0, ..V4 }).0;
    assert_eq!(cache.resolve("localhost", 80).await, Err(Unresolved::PendingOverflow));
    assert!(lock(&cache.0.asking).is_empty());
}

/// A cache whose look-ups end when they are told to, each with the address that it is told.
fn slow(options: CacheOptions) -> (DnsCache, mpsc::Sender<SocketAddr>, Store) {
    let store = Store::new(1);
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let find = move |_: &str| Ok(lock(&receiver).recv().into_iter().collect());
    (DnsCache::with(options, &store.root(), Box::new(find)), sender, store)
}

async fn until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

#[tokio::test]
async fn a_lookup_keeps_its_place_until_it_returns() {
    let options = CacheOptions { max_pending: 1, timeout: Duration::from_millis(10), ..V4 };
    let (cache, answers, _store) = slow(options);
    assert_eq!(cache.resolve("slow", 80).await, Err(Unresolved::Failed));
    assert_eq!(cache.resolve("other", 80).await, Err(Unresolved::PendingOverflow));
    // It is still the same one.
    assert_eq!(cache.resolve("slow", 80).await, Err(Unresolved::Failed));
    let stats = &cache.0.stats;
    assert_eq!((stats.attempt.value(), stats.timeout.value(), stats.failure.value()), (1, 1, 1));
    answers.send("10.0.0.1:0".parse().unwrap()).unwrap();
    until(|| lock(&cache.0.asking).is_empty()).await;
    // Late, and still of use.
    assert_eq!(cache.resolve("slow", 80).await, Ok("10.0.0.1:80".parse().unwrap()));
    assert_eq!((stats.attempt.value(), stats.success.value()), (1, 0));
}

#[tokio::test]
async fn a_client_that_leaves_frees_no_place() {
    let (cache, answers, _store) = slow(CacheOptions { max_pending: 1, ..V4 });
    let leaves = tokio::time::timeout(Duration::from_millis(1), cache.resolve("slow", 80)).await;
    assert!(leaves.is_err());
    assert_eq!(cache.resolve("other", 80).await, Err(Unresolved::PendingOverflow));
    answers.send("10.0.0.1:0".parse().unwrap()).unwrap();
    until(|| lock(&cache.0.asking).is_empty()).await;
}

#[tokio::test]
async fn one_lookup_serves_all_who_wait_for_it() {
    let (cache, answers, _store) = slow(V4);
    let all = (0..5).map(|_| tokio::spawn(cache.resolve("name", 80))).collect::<Vec<_>>();
    until(|| !lock(&cache.0.asking).is_empty()).await;
    // On this runtime each has been polled by now.
    tokio::task::yield_now().await;
    answers.send("10.0.0.1:0".parse().unwrap()).unwrap();
    for one in all {
        assert_eq!(one.await.unwrap(), Ok("10.0.0.1:80".parse().unwrap()));
    }
    assert_eq!(cache.0.stats.attempt.value(), 1);
}

#[tokio::test]
async fn a_known_address_serves_while_it_is_asked_for_again() {
    let (cache, answers, _store) = slow(CacheOptions { max_pending: 1, refresh: Duration::ZERO, ..V4 });
    let old = Ok("10.0.0.1:80".parse().unwrap());
    cache.0.keep("name".into(), "10.0.0.1".parse().unwrap(), Instant::now()).unwrap();
    cache.0.keep("other".into(), "10.0.0.1".parse().unwrap(), Instant::now()).unwrap();
    let first = tokio::spawn(cache.resolve("name", 80));
    until(|| !lock(&cache.0.asking).is_empty()).await;
    assert_eq!(cache.resolve("name", 80).await, old);
    // No place for this one.
    assert_eq!(cache.resolve("other", 80).await, old);
    assert_eq!(cache.0.stats.pending_overflow.value(), 1);
    answers.send("10.0.0.2:0".parse().unwrap()).unwrap();
    assert_eq!(first.await.unwrap(), Ok("10.0.0.2:80".parse().unwrap()));
}
