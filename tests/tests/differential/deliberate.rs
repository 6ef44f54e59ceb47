//! Where adit differs on purpose: the test, the case, what adit's answer holds, the parts that differ, and why
//! (docs/differences.md).

use crate::lab::Part;

type Entry = (&'static str, &'static str, &'static str, &'static [Part], &'static str);

pub const DELIBERATE: &[Entry] = &[];
