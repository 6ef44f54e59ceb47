use super::*;

/// A line of time: seconds, tasks, and whether memory is given back.
fn follows(story: &[(u64, usize, bool)]) {
    let (start, mut peak) = (Instant::now(), Peak::default());
    for (second, tasks, wanted) in story {
        let now = start + Duration::from_secs(*second);
        assert_eq!(peak.is_over(now, *tasks), *wanted, "at {second} s with {tasks} tasks");
    }
}

#[test]
fn half_of_a_large_peak_must_be_gone() {
    follows(&[(0, 10, false), (1, 4000, false), (2, 2100, false), (3, 2001, false), (4, 2000, true), (5, 1500, false)]);
    follows(&[(0, 5000, false), (1, 0, false), (2, 0, true), (99, 0, false)]);
}

#[test]
fn small_peaks_are_left_alone() {
    follows(&[(0, 999, false), (1, 0, false), (2, 1000, false), (3, 500, false), (4, 500, true)]);
}

#[test]
fn it_happens_once_in_a_while() {
    let again = [(3, 9000, false), (4, 0, false), (11, 0, false), (12, 0, true)];
    follows(&[&[(0, 9000, false), (1, 0, false), (2, 0, true)][..], &again].concat());
}

#[test]
fn a_quick_decline_is_waited_for() {
    follows(&[(0, 8000, false), (1, 4000, false), (2, 2000, false), (3, 100, false), (4, 90, true), (5, 0, false)]);
}

#[test]
fn a_slow_decline_is_followed_down() {
    follows(&[
        (0, 8000, false),
        (1, 4100, false),
        (2, 3800, true),
        (40, 1900, false),
        (41, 1890, true),
        (99, 800, false),
        (100, 800, true),
    ]);
}

#[test]
fn there_is_something_to_count_and_the_allocator_can_be_asked() {
    assert!(resident() > 0);
    trim();
}
