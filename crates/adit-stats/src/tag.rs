//! The names of Envoy's well-known tags, as Prometheus shows them.

/// `cluster.<name>.`
pub const CLUSTER_NAME: &str = "envoy_cluster_name";
/// `listener.<address>.`
pub const LISTENER_ADDRESS: &str = "envoy_listener_address";
/// `http.<stat_prefix>.`
pub const HTTP_CONN_MANAGER_PREFIX: &str = "envoy_http_conn_manager_prefix";
/// `tcp.<stat_prefix>.`
pub const TCP_PREFIX: &str = "envoy_tcp_prefix";
/// `udp.<stat_prefix>.`
pub const UDP_PREFIX: &str = "envoy_udp_prefix";
/// `worker_<n>.`
pub const WORKER_ID: &str = "envoy_worker_id";
/// `vhost.<name>.`
pub const VIRTUAL_HOST: &str = "envoy_virtual_host";
/// `vcluster.<name>.`
pub const VIRTUAL_CLUSTER: &str = "envoy_virtual_cluster";
/// `<rq>_<code>`
pub const RESPONSE_CODE: &str = "envoy_response_code";
/// `<rq>_<digit>xx`
pub const RESPONSE_CODE_CLASS: &str = "envoy_response_code_class";
/// `connection_limit.<stat_prefix>.`
pub const CONNECTION_LIMIT_PREFIX: &str = "envoy_connection_limit_prefix";
/// `<stat_prefix>.rbac.` of a network filter
pub const RBAC_PREFIX: &str = "envoy_rbac_prefix";
/// `<stat_prefix>.http_local_rate_limit.`
pub const LOCAL_HTTP_RATELIMIT_PREFIX: &str = "envoy_local_http_ratelimit_prefix";
/// `listener.<address>.ssl.ciphers.<cipher>`
pub const SSL_CIPHER: &str = "envoy_ssl_cipher";
/// `cluster.<name>.ssl.ciphers.<cipher>`
pub const SSL_CIPHER_SUITE: &str = "cipher_suite";
