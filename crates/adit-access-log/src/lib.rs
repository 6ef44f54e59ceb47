//! Format strings, access-log sinks and filters
