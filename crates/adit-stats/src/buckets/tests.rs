#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn bins(samples: impl IntoIterator<Item = u64>) -> Bins {
    let mut bins = Bins::default();
    for sample in samples {
        bins.add(bucket_id(bucket_of(sample)), 1);
        bins.sum = bins.sum.saturating_add(sample);
    }
    bins
}

#[test]
fn edges_of_buckets() {
    let of = |value| edges(bucket_id(bucket_of(value)));
    assert_eq!(of(0), (0.0, 0.0));
    assert_eq!(of(1), (1.0, 0.1));
    assert_eq!(of(9), (9.0, 0.1));
    assert_eq!(of(10), (10.0, 1.0));
    assert_eq!(of(99), (99.0, 1.0));
    assert_eq!(of(100), (100.0, 10.0));
    assert_eq!(of(999), (990.0, 10.0));
    assert_eq!(bucket_of(u64::MAX), Some((19, 8)));
    assert_eq!(bucket_id(bucket_of(u64::MAX)), (1 + 19 * PER_DECADE + 8) as u16);
}

#[test]
fn quantiles_of_a_ramp() {
    let ramp = bins(1..=1000);
    let found = ramp.quantiles();
    for (percent, value) in QUANTILES.iter().zip(found) {
        let exact = percent * 10.0;
        assert!((value - exact).abs() <= exact.mul_add(0.1, 1.0), "P{percent} is {value}");
    }
    assert!(Bins::default().quantiles().iter().all(|value| value.is_nan()));
    assert_eq!(bins([0, 0, 0]).quantiles(), [0.0; 10]);
}

#[test]
fn bounds_count_whole_buckets() {
    let below = bins([0, 1, 4, 5, 9, 10, 499, 500, 4_000_000]).below_bounds();
    let at = |bound: f64| below[PROMETHEUS_BOUNDS.iter().position(|b| *b == bound).unwrap()];
    assert_eq!((at(0.5), at(1.0), at(5.0), at(10.0)), (1, 1, 3, 5));
    assert_eq!((at(500.0), at(1000.0), at(3.6e6)), (7, 8, 8));
}

proptest! {
    #[test]
    fn a_value_lies_in_its_bucket(value in any::<u64>()) {
        let (left, width) = edges(bucket_id(bucket_of(value)));
        // Doubles are exact up to 2^53; above, allow their rounding.
        let slack = value as f64 * 1e-12;
        prop_assert!(left <= value as f64 + slack);
        prop_assert!((value as f64) < left + width + slack || value == 0);
        prop_assert!(width <= left * 0.1 + 1e-9);
    }

    #[test]
    fn bucket_numbers_grow_with_the_value(a in any::<u64>(), b in any::<u64>()) {
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(bucket_id(bucket_of(low)) <= bucket_id(bucket_of(high)));
    }

    #[test]
    fn quantiles_are_sorted_and_inside(samples in prop::collection::vec(0u64..1_000_000, 1..200)) {
        let found = bins(samples.iter().copied()).quantiles();
        prop_assert!(found.windows(2).all(|pair| pair[0] <= pair[1]));
        let (min, max) = (*samples.iter().min().unwrap() as f64, *samples.iter().max().unwrap() as f64);
        prop_assert!(found[0] <= min && found[0] >= min * 0.9 - 0.1);
        prop_assert!(found[9] >= max && found[9] <= max * 1.1 + 0.1);
    }

    #[test]
    fn what_came_since_is_what_was_recorded_since(
        a in prop::collection::vec(0u64..100_000, 0..50),
        b in prop::collection::vec(0u64..100_000, 0..50),
    ) {
        let before = bins(a.iter().copied());
        let both = bins(a.into_iter().chain(b.iter().copied()));
        prop_assert_eq!(both.disjoint().iter().sum::<u64>(), both.below_bounds()[18]);
        prop_assert_eq!(both.since(&before), bins(b.into_iter()));
    }
}
