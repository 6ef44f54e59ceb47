//! Moments and durations: `%START_TIME(%Y/%m/%d)%`, `%COMMON_DURATION(a:b:ms)%`. UTC only, without a C library.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use adit_filter::StreamInfo;

/// A format of moments, in the manner of strftime with Envoy's `%f`, `%3f` and `%s`.
#[derive(Debug, Clone)]
pub(super) struct TimeFormat(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(Box<str>),
    /// A conversion that needs no number: `Y`, `m` and so on.
    Field(char),
    /// So many digits of the fraction of a second.
    Fraction(usize),
    /// Seconds with so many digits of their fraction (`%E3S`); `None` as many as needed.
    Seconds(Option<usize>),
}

/// `2026-01-31T23:59:59.123Z`.
const ISO: &str = "%Y-%m-%dT%H:%M:%E3SZ";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl TimeFormat {
    /// An empty format is Envoy's default.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { ISO } else { text };
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                literal.push(letter);
                continue;
            }
            let mut spec = String::new();
            while let Some(next) = letters.next_if(|next| matches!(next, 'E' | '*' | '0'..='9')) {
                spec.push(next);
            }
            let conversion = letters.next().ok_or_else(|| format!("Invalid time format: {text}"))?;
            match part(&spec, conversion)
                .ok_or_else(|| format!("Invalid time format: %{spec}{conversion} in {text}"))?
            {
                Part::Text(text) => literal.push_str(&text),
                part => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal).into()));
                    }
                    parts.push(part);
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self(parts))
    }

    pub fn render(&self, time: SystemTime) -> String {
        let mut out = String::with_capacity(24);
        self.write(time, &mut out);
        out
    }

    fn write(&self, time: SystemTime, out: &mut String) {
        let date = Date::new(time);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(field) => date.write(*field, out),
                Part::Fraction(digits) => date.write_fraction(*digits, out),
                Part::Seconds(digits) => {
                    date.write('S', out);
                    match digits {
                        Some(0) => {}
                        Some(digits) => {
                            out.push('.');
                            date.write_fraction(*digits, out);
                        }
                        None if date.nanos == 0 => {}
                        None => {
                            out.push('.');
                            date.write_fraction(9, out);
                            out.truncate(out.trim_end_matches('0').len());
                        }
                    }
                }
            }
        }
    }
}

fn part(spec: &str, conversion: char) -> Option<Part> {
    let digits = || spec.trim_start_matches('E').parse::<usize>().ok().filter(|digits| *digits <= 9);
    Some(match (spec, conversion) {
        ("", '%') => Part::Text("%".into()),
        ("", 'n') => Part::Text("\n".into()),
        ("", 't') => Part::Text("\t".into()),
        ("", 'f') => Part::Fraction(9),
        ("", field) if "YmdHMSyjeIpaAbBhZzsTFDRCkluw".contains(field) => Part::Field(field),
        ("E*", 'S') => Part::Seconds(None),
        ("E*", 'f') => Part::Fraction(9),
        (spec, 'S') if spec.starts_with('E') => Part::Seconds(Some(digits()?)),
        (_, 'f') => Part::Fraction(digits().filter(|digits| *digits > 0)?),
        _ => return None,
    })
}

/// A moment taken apart.
struct Date {
    epoch: i64,
    year: i64,
    month: usize,
    day: i64,
    /// From 0.
    day_of_year: i64,
    /// From Sunday.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: u32,
}

impl Date {
    fn new(time: SystemTime) -> Self {
        let (epoch, nanos) = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2), since.subsec_nanos()),
            Err(before) => (-i64::try_from(before.duration().as_secs()).unwrap_or(0), 0),
        };
        let days = epoch.div_euclid(86_400);
        let in_day = epoch.rem_euclid(86_400);
        // Howard Hinnant's civil_from_days: eras of 400 years that begin on a 1 March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * from_march + 2) / 153;
        let day = from_march - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let before_march = 59 + i64::from(leap);
        let day_of_year = if month > 2 { from_march + before_march } else { from_march - 306 };
        Self {
            epoch,
            year,
            month: usize::try_from(month).unwrap_or(1),
            day,
            day_of_year,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            hour: in_day / 3_600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
            nanos,
        }
    }

    fn write(&self, field: char, out: &mut String) {
        let month = MONTHS.get(self.month.saturating_sub(1)).copied().unwrap_or_default();
        let weekday = DAYS.get(self.weekday).copied().unwrap_or_default();
        let hour12 = if self.hour % 12 == 0 { 12 } else { self.hour % 12 };
        let done = match field {
            'Y' => write!(out, "{}", self.year),
            'C' => write!(out, "{:02}", self.year / 100),
            'y' => write!(out, "{:02}", self.year.rem_euclid(100)),
            'm' => write!(out, "{:02}", self.month),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'j' => write!(out, "{:03}", self.day_of_year + 1),
            'H' => write!(out, "{:02}", self.hour),
            'k' => write!(out, "{:2}", self.hour),
            'I' => write!(out, "{hour12:02}"),
            'l' => write!(out, "{hour12:2}"),
            'M' => write!(out, "{:02}", self.minute),
            'S' => write!(out, "{:02}", self.second),
            'p' => out.write_str(if self.hour < 12 { "AM" } else { "PM" }),
            'a' => out.write_str(weekday.get(..3).unwrap_or_default()),
            'A' => out.write_str(weekday),
            'b' | 'h' => out.write_str(month.get(..3).unwrap_or_default()),
            'B' => out.write_str(month),
            'u' => write!(out, "{}", if self.weekday == 0 { 7 } else { self.weekday }),
            'w' => write!(out, "{}", self.weekday),
            'Z' => out.write_str("UTC"),
            'z' => out.write_str("+0000"),
            's' => write!(out, "{}", self.epoch),
            'T' => write!(out, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'R' => write!(out, "{:02}:{:02}", self.hour, self.minute),
            'F' => write!(out, "{}-{:02}-{:02}", self.year, self.month, self.day),
            'D' => write!(out, "{:02}/{:02}/{:02}", self.month, self.day, self.year.rem_euclid(100)),
            _ => Ok(()),
        };
        debug_assert!(done.is_ok());
    }

    fn write_fraction(&self, digits: usize, out: &mut String) {
        let all = format!("{:09}", self.nanos);
        out.push_str(all.get(..digits).unwrap_or(&all));
    }
}

/// `%COMMON_DURATION(from:to:precision)%`.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommonDuration {
    from: fn(&StreamInfo) -> Option<Duration>,
    to: fn(&StreamInfo) -> Option<Duration>,
    unit: u128,
}

impl CommonDuration {
    pub fn parse(argument: Option<&str>) -> Result<Self, String> {
        let argument = argument.unwrap_or_default();
        let parts: Vec<_> = argument.split(':').collect();
        let [from, to, unit] = parts.as_slice() else {
            return Err(format!("Invalid common duration configuration: {argument}"));
        };
        let unit = match *unit {
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            other => return Err(format!("Invalid common duration precision: {other}")),
        };
        let point = |name: &str| point(name).ok_or_else(|| format!("Invalid common duration time point: {name}"));
        Ok(Self { from: point(from)?, to: point(to)?, unit })
    }

    pub fn value(&self, info: &StreamInfo) -> Option<u64> {
        let span = (self.to)(info)?.checked_sub((self.from)(info)?)?;
        u64::try_from(span.as_nanos() / self.unit).ok()
    }
}

fn point(name: &str) -> Option<fn(&StreamInfo) -> Option<Duration>> {
    Some(match name {
        "DS_RX_BEG" => |_| Some(Duration::ZERO),
        "DS_RX_END" => |info| info.timing.request_received,
        "US_CX_END" | "US_HS_END" => |info| info.upstream.as_ref()?.pool_ready,
        "US_TX_BEG" => |info| info.timing.upstream_first_sent,
        "US_TX_END" => |info| info.timing.upstream_last_sent,
        "US_RX_BEG" => |info| info.timing.upstream_first_received,
        "US_RX_END" => |info| info.timing.upstream_last_received,
        "DS_TX_BEG" => |info| info.timing.downstream_first_sent,
        "DS_TX_END" => |info| info.timing.downstream_last_sent,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
