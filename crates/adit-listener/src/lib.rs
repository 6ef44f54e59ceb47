//! Sockets, listener filters, filter-chain match
