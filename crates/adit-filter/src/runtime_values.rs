//! Values of the layered runtime (`envoy.config.bootstrap.v3.LayeredRuntime`).

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// Runtime keys and values, later layers over earlier ones. Cheap to clone; read rarely (fractions, overrides).
#[derive(Clone, Default)]
pub struct RuntimeValues(Arc<RwLock<BTreeMap<String, String>>>);

impl RuntimeValues {
    /// Sets a key; an empty value removes it.
    pub fn set(&self, key: &str, value: &str) {
        // A poisoned lock still guards whole values: a writer cannot leave one half-written.
        let mut map = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if value.is_empty() {
            map.remove(key);
        } else {
            map.insert(key.to_owned(), value.to_owned());
        }
    }

    /// The text of a key.
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
    }

    /// A key as a number, or the default.
    pub fn number(&self, key: &str, default: f64) -> f64 {
        if key.is_empty() {
            return default;
        }
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// A key as a truth value, or the default.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// Every key with its value.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Whether `roll`, evenly spread, falls into a fraction of `numerator` in `denominator` that the key may override.
    pub fn sampled(&self, key: &str, numerator: u32, denominator: u32, roll: u64) -> bool {
        let numerator = self.number(key, f64::from(numerator));
        (roll % u64::from(denominator.max(1))) as f64 + 0.5 < numerator + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::RuntimeValues;

    #[test]
    fn fractions_are_exact_at_both_ends() {
        let runtime = RuntimeValues::default();
        assert!((0..100).all(|roll| runtime.sampled("", 100, 100, roll)));
        assert!(!(0..100).any(|roll| runtime.sampled("", 0, 100, roll)));
        assert_eq!((0..100).filter(|roll| runtime.sampled("k", 30, 100, *roll)).count(), 30);
        runtime.set("k", "10");
        assert_eq!((0..100).filter(|roll| runtime.sampled("k", 30, 100, *roll)).count(), 10);
        runtime.set("k", "");
        assert_eq!(runtime.get("k"), None);
    }
}
