//! rustls as a transport socket
