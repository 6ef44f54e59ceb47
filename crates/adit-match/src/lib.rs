//! Envoy's matchers: strings, headers, addresses, RBAC
