#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn addresses(text: &str) -> Vec<SocketAddr> {
    text.split(' ').filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect()
}

#[test]
fn families() {
    let both = "1.1.1.1:1 [::1]:1 1.1.1.2:1 1.1.1.1:1";
    for (family, found, wanted) in [
        (DnsFamily::Auto, both, "[::1]:1"),
        (DnsFamily::Auto, "1.1.1.1:1", "1.1.1.1:1"),
        (DnsFamily::V4Preferred, both, "1.1.1.1:1 1.1.1.2:1"),
        (DnsFamily::V4Preferred, "[::1]:1", "[::1]:1"),
        (DnsFamily::V4Only, "[::1]:1", ""),
        (DnsFamily::V6Only, both, "[::1]:1"),
        (DnsFamily::All, both, "[::1]:1 1.1.1.1:1 1.1.1.2:1"),
    ] {
        assert_eq!(choose(addresses(found), family), addresses(wanted), "{family:?} {found}");
    }
}

#[test]
fn failures_back_off() {
    let dns = DnsPlan {
        family: DnsFamily::Auto,
        refresh: Duration::from_secs(5),
        failure: Some((Duration::from_secs(1), Duration::from_secs(8))),
        jitter: Duration::ZERO,
    };
    assert_eq!(pause(&dns, 0), Duration::from_secs(5));
    for (failures, ceiling) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (1000, 8)] {
        let pause = pause(&dns, failures);
        assert!(pause <= Duration::from_secs(ceiling) && pause >= Duration::from_secs(ceiling) / 2, "{failures}");
    }
}
