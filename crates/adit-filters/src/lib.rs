//! Envoy's HTTP and network filters
