//! Fractions that the runtime may override.

use adit_config::proto::envoy::config::core::v3::RuntimeFractionalPercent;
use adit_config::proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use adit_filter::RuntimeValues;

/// `RuntimeFractionalPercent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fraction {
    /// Out of [`Fraction::denominator`].
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
    /// The runtime key that overrides the numerator; empty for none.
    pub key: Box<str>,
}

impl Fraction {
    /// Always.
    pub fn always() -> Self {
        Self { numerator: 100, denominator: 100, key: "".into() }
    }

    /// Never.
    pub fn never() -> Self {
        Self { numerator: 0, denominator: 100, key: "".into() }
    }

    /// From its message.
    pub fn from_runtime(message: &RuntimeFractionalPercent) -> Self {
        let fraction = message.default_value.as_ref().map_or_else(Self::never, Self::from_percent);
        fraction.key(&message.runtime_key)
    }

    /// From the message without a key.
    pub fn from_percent(message: &FractionalPercent) -> Self {
        let denominator = match message.denominator() {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        Self { numerator: message.numerator, denominator, key: "".into() }
    }

    /// With a runtime key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = key.into();
        self
    }

    /// Whether `roll`, evenly spread over `u64`, falls into the fraction.
    pub fn sampled(&self, runtime: &RuntimeValues, roll: u64) -> bool {
        runtime.sampled(&self.key, self.numerator, self.denominator, roll)
    }
}
