//! Counters by HTTP status: `<prefix>_2xx` and `<prefix>_200`.

use std::sync::OnceLock;

use crate::{Counter, Scope, tag};

/// `<prefix>_1xx` to `<prefix>_5xx`, which exist from the start (`http.<p>.downstream_rq_2xx`).
#[derive(Clone, Debug, Default)]
pub struct ResponseClasses([Counter; 5]);

/// `<prefix>_<n>xx` and `<prefix>_<code>`, each made at its first use (`cluster.<c>.upstream_rq_200`).
///
/// After its first use a code costs no lock.
#[derive(Debug)]
pub struct ResponseCodes {
    scope: Scope,
    prefix: String,
    classes: [OnceLock<Counter>; 5],
    codes: [OnceLock<Box<Hundred>>; 5],
}

#[derive(Debug)]
struct Hundred([OnceLock<Counter>; 100]);

impl ResponseClasses {
    /// Makes the five counters in `scope`.
    pub fn new(scope: &Scope, prefix: &str) -> Self {
        Self([1, 2, 3, 4, 5].map(|class| class_counter(scope, prefix, class)))
    }

    /// Counts a response with this status; one outside 100 to 599 is not counted.
    pub fn inc(&self, status: u16) {
        if let Some(counter) = class_of(status).and_then(|class| self.0.get(class)) {
            counter.inc();
        }
    }

    /// The counter of a status' class, from 1 for `1xx` to 5.
    pub fn class(&self, class: usize) -> Option<&Counter> {
        self.0.get(class.checked_sub(1)?)
    }
}

impl ResponseCodes {
    /// Makes no counter yet.
    pub fn new(scope: &Scope, prefix: &str) -> Self {
        Self {
            scope: scope.clone(),
            prefix: prefix.to_owned(),
            classes: [const { OnceLock::new() }; 5],
            codes: [const { OnceLock::new() }; 5],
        }
    }

    /// Counts a response with this status, by class and by code; one outside 100 to 599 is not counted.
    pub fn inc(&self, status: u16) {
        let Some(class) = class_of(status) else {
            return;
        };
        let by_class = self.classes[class].get_or_init(|| class_counter(&self.scope, &self.prefix, class + 1));
        by_class.inc();
        let hundred = self.codes[class].get_or_init(|| Box::new(Hundred([const { OnceLock::new() }; 100])));
        hundred.0[usize::from(status % 100)].get_or_init(|| self.code_counter(status)).inc();
    }

    fn code_counter(&self, status: u16) -> Counter {
        let name = format!("{}_{status}", self.prefix);
        self.scope.counter_tagged(&name, &self.prefix, &[(tag::RESPONSE_CODE, &status.to_string())])
    }
}

fn class_of(status: u16) -> Option<usize> {
    (100..600).contains(&status).then(|| usize::from(status / 100) - 1)
}

fn class_counter(scope: &Scope, prefix: &str, class: usize) -> Counter {
    let tags = [(tag::RESPONSE_CODE_CLASS, class.to_string())];
    let tags = tags.each_ref().map(|(name, value)| (*name, value.as_str()));
    scope.counter_tagged(&format!("{prefix}_{class}xx"), &format!("{prefix}_xx"), &tags)
}
