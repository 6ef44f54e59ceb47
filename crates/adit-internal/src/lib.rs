//! User-space sockets and their registry
