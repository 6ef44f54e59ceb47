//! A checked configuration becomes live objects
