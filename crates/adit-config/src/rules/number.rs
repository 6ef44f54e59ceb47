//! Bounds of numbers, durations and times.

use std::fmt;

/// The numeric rules of one field.
pub(super) struct Bounds<'a, T> {
    pub only: Option<T>,
    pub lt: Option<T>,
    pub lte: Option<T>,
    pub gt: Option<T>,
    pub gte: Option<T>,
    pub allowed: &'a [T],
    pub denied: &'a [T],
    pub ignore_empty: bool,
}

/// The bounds of one of the generated rule messages, which share their fields but no type.
macro_rules! bounds {
    ($rules:expr) => {
        $crate::rules::number::Bounds {
            only: $rules.r#const,
            lt: $rules.lt,
            lte: $rules.lte,
            gt: $rules.gt,
            gte: $rules.gte,
            allowed: &$rules.r#in,
            denied: &$rules.not_in,
            ignore_empty: $rules.ignore_empty(),
        }
    };
}
pub(super) use bounds;

impl<T: PartialOrd + Copy + Default + fmt::Display> Bounds<'_, T> {
    pub fn check(&self, value: T, what: &str) -> Result<(), String> {
        if self.ignore_empty && value == T::default() {
            return Ok(());
        }
        if let Some(only) = self.only
            && only != value
        {
            return Err(format!("{what} must equal {only}"));
        }
        self.range(value, what)?;
        let list = |all: &[T]| all.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
        if !self.allowed.is_empty() && !self.allowed.contains(&value) {
            return Err(format!("{what} must be in list [{}]", list(self.allowed)));
        }
        if self.denied.contains(&value) {
            return Err(format!("{what} must not be in list [{}]", list(self.denied)));
        }
        Ok(())
    }

    fn range(&self, value: T, what: &str) -> Result<(), String> {
        let above = self.gt.map(|bound| (bound, value > bound, '(')).or(self.gte.map(|b| (b, value >= b, '[')));
        let below = self.lt.map(|bound| (bound, value < bound, ')')).or(self.lte.map(|b| (b, value <= b, ']')));
        match (above, below) {
            (Some((low, over, open)), Some((high, under, close))) => {
                if low <= high {
                    if over && under {
                        return Ok(());
                    }
                    return Err(format!("{what} must be inside range {open}{low}, {high}{close}"));
                }
                // A lower bound above the upper one excludes what is between them.
                if over || under {
                    return Ok(());
                }
                Err(format!("{what} must be outside range {close}{high}, {low}{open}"))
            }
            (Some((low, false, '(')), None) => Err(format!("{what} must be greater than {low}")),
            (Some((low, false, _)), None) => Err(format!("{what} must be greater than or equal to {low}")),
            (None, Some((high, false, ')'))) => Err(format!("{what} must be less than {high}")),
            (None, Some((high, false, _))) => Err(format!("{what} must be less than or equal to {high}")),
            _ => Ok(()),
        }
    }
}

/// A duration, or a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant {
    pub seconds: i64,
    pub nanos: i32,
}

impl From<&prost_types::Duration> for Instant {
    fn from(value: &prost_types::Duration) -> Self {
        Self { seconds: value.seconds, nanos: value.nanos }
    }
}

impl From<&prost_types::Timestamp> for Instant {
    fn from(value: &prost_types::Timestamp) -> Self {
        Self { seconds: value.seconds, nanos: value.nanos }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return write!(f, "{}s", self.seconds);
        }
        let text = format!("{}.{:09}", self.seconds, self.nanos.unsigned_abs());
        write!(f, "{}s", text.trim_end_matches('0'))
    }
}
