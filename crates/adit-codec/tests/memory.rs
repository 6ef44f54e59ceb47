//! The in-memory codec passes the suite: the traits can be implemented by a protocol that multiplexes.
#![allow(missing_docs)]

use adit_codec::conformance::memory::Memory;

adit_codec::conformance_suite!(Memory);
