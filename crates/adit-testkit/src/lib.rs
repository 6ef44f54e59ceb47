//! Peers and fakes for tests
