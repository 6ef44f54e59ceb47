#![allow(clippy::unwrap_used)]
use super::*;

fn render(format: &str, seconds: u64, nanos: u32) -> String {
    TimeFormat::new(format).unwrap().render(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}

#[test]
fn moments_print_as_strftime_has_them() {
    // Checked with `date -u`.
    let at = 1_709_210_096; // 2024-02-29T12:34:56Z, a Thursday
    for (format, expected) in [
        ("", "2024-02-29T12:34:56.007Z"),
        ("%Y/%m/%dT%H:%M:%S%z %s", "2024/02/29T12:34:56+0000 1709210096"),
        ("%s.%3f", "1709210096.007"),
        ("%f %1f %6f %9f", "007008009 0 007008 007008009"),
        ("%E3S %E6S %E*S %E0S", "56.007 56.007008 56.007008009 56"),
        ("%a %A %b %B %e %j %p %I %y %C", "Thu Thursday Feb February 29 060 PM 12 24 20"),
        ("%T %R %F %D %u %w %Z%n%t%%", "12:34:56 12:34 2024-02-29 02/29/24 4 4 UTC\n\t%"),
    ] {
        assert_eq!(render(format, at, 7_008_009), expected, "{format}");
    }
    assert_eq!(render("%F %T %j %a", 0, 0), "1970-01-01 00:00:00 001 Thu");
    assert_eq!(render("%F %j", 951_782_400, 0), "2000-02-29 060");
    assert_eq!(render("%F %j", 4_107_542_400, 0), "2100-03-01 060");
    assert_eq!(render("%F %j %E*S", 1_735_689_599, 0), "2024-12-31 366 59");
}

#[test]
fn unknown_conversions_are_refused() {
    for format in ["%", "%Q", "%0f", "%10f", "%E", "%Ex"] {
        assert!(TimeFormat::new(format).is_err(), "{format}");
    }
}
