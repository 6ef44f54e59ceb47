//! Route table and the terminal HTTP filter
