//! Filters, chains, connection managers and transport sockets from their messages: where the crates meet.

use std::sync::Arc;

use adit_access_log::Sinks;
use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_config::proto::envoy::config::listener::v3::{Filter, Listener};
use adit_config::proto::envoy::config::route::v3::RouteConfiguration;
use adit_config::proto::envoy::extensions::filters::http::router::v3::Router as RouterMessage;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use adit_config::proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as TcpProxyMessage;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::v3::UdpProxyConfig;
use adit_config::{Diagnostic, Path, is, type_name, unpack};
use adit_filter::{
    AccessLog, ChainEntry, FilterChain, HttpTerminal, ListenerFilter, ListenerInfo, NetworkFilter, NetworkTerminal,
    PerFilterConfig, QuicFilter, RouteTable, RuntimeValues, UdpListenerFilter,
};
use adit_filters::{ConfigError, Env, NetworkEntry};
use adit_hcm::{Hcm, HcmContext};
use adit_listener::{Factories, NetworkChain, TransportAcceptor};
use adit_quic::QuicListener;
use adit_router::{PerFilterConfigs, RouteConfig, RouteContext, Router};
use adit_stats::Scope;
use adit_tcp_proxy::TcpProxy;
use adit_tls::TlsEnv;
use adit_udp_proxy::UdpProxy;
use hcm::http_filter::ConfigType;
use prost_types::Any;

use adit_upstream::codec_stats::{Http2Stats, Http3Stats};

/// What every listener of the process is built with.
pub(crate) struct ServerFactories {
    pub(crate) stats: Scope,
    pub(crate) sinks: Sinks,
    pub(crate) runtime: RuntimeValues,
    pub(crate) cluster_names: Vec<String>,
    pub(crate) service_cluster: String,
    pub(crate) http2_stats: Arc<Http2Stats>,
    pub(crate) http3_stats: Arc<Http3Stats>,
    pub(crate) tls: TlsEnv,
    pub(crate) workers: usize,
}

type Found<T> = Result<T, Vec<Diagnostic>>;

fn diagnostics(errors: Vec<ConfigError>) -> Vec<Diagnostic> {
    errors.into_iter().map(diagnostic).collect()
}

fn diagnostic(error: ConfigError) -> Diagnostic {
    Diagnostic::error(error.path, error.message)
}

fn unknown(any: &Any, path: &Path) -> Vec<Diagnostic> {
    vec![Diagnostic::error(path, format!("extension {} is not implemented by adit", type_name(any)))]
}

impl Factories for ServerFactories {
    fn network_chain(
        &self,
        filters: &[Filter],
        listener: &Arc<ListenerInfo>,
        scope: &Scope,
        path: &Path,
    ) -> Found<NetworkChain> {
        let mut errors = Vec::new();
        let mut chain: Vec<Arc<dyn NetworkFilter>> = Vec::new();
        let mut terminal: Option<Arc<dyn NetworkTerminal>> = None;
        for (index, filter) in filters.iter().enumerate() {
            let at = path.index(index).field("typed_config");
            match self.network_filter(filter, listener, scope, &at) {
                Ok(NetworkEntry::Filter(filter)) => chain.push(filter),
                Ok(NetworkEntry::Terminal(filter)) => terminal = Some(filter),
                Err(found) => errors.extend(found),
            }
        }
        match terminal {
            Some(terminal) if errors.is_empty() => Ok(NetworkChain { filters: chain, terminal }),
            _ if errors.is_empty() => Err(vec![Diagnostic::error(path, "the last filter must be a terminal one")]),
            _ => Err(errors),
        }
    }

    fn transport_socket(
        &self,
        message: &TransportSocket,
        scope: &Scope,
        path: &Path,
    ) -> Found<Option<Arc<dyn TransportAcceptor>>> {
        crate::transports::downstream(message, &self.tls, scope, path)
    }

    fn listener_filter(&self, config: &Any, scope: &Scope, path: &Path) -> Option<Found<Arc<dyn ListenerFilter>>> {
        let _ = (config, scope, path);
        None
    }

    fn udp_filter(&self, config: &Any, path: &Path) -> Option<Found<Arc<dyn UdpListenerFilter>>> {
        is::<UdpProxyConfig>(config).then(|| {
            let message: UdpProxyConfig =
                unpack(config).map_err(|error| vec![Diagnostic::error(path, error.to_string())])?;
            let proxy = UdpProxy::from_proto(&message, &Logs(self), path)?;
            Ok(proxy as Arc<dyn UdpListenerFilter>)
        })
    }

    fn quic_filter(
        &self,
        message: &Listener,
        _listener: &Arc<ListenerInfo>,
        scope: &Scope,
        path: &Path,
    ) -> Found<Arc<dyn QuicFilter>> {
        let listener = QuicListener::from_proto(message, self, scope, path)?;
        Ok(listener)
    }

    fn access_logs(&self, messages: &[AccessLogMessage], path: &Path) -> Found<Vec<Arc<dyn AccessLog>>> {
        adit_access_log::build(messages, &self.sinks, path.as_str()).map_err(diagnostics)
    }

    fn stats(&self) -> &Scope {
        &self.stats
    }
}

impl ServerFactories {
    fn network_filter(
        &self,
        filter: &Filter,
        listener: &Arc<ListenerInfo>,
        scope: &Scope,
        path: &Path,
    ) -> Found<NetworkEntry> {
        use adit_config::proto::envoy::config::listener::v3::filter::ConfigType;
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            return Err(vec![Diagnostic::error(path, "typed_config is required")]);
        };
        let broken = |error: adit_config::UnpackError| vec![Diagnostic::error(path, error.to_string())];
        if is::<hcm::HttpConnectionManager>(any) {
            let message = unpack(any).map_err(broken)?;
            return Ok(NetworkEntry::Terminal(self.connection_manager(&message, scope, false, path)?));
        }
        if is::<TcpProxyMessage>(any) {
            let message: TcpProxyMessage = unpack(any).map_err(broken)?;
            return Ok(NetworkEntry::Terminal(self.tcp_proxy(&message, listener, path)?));
        }
        let env = Env { root: &self.stats, http: &self.stats };
        adit_filters::network_filter(any, &env, path.as_str())
            .map_err(|error| vec![diagnostic(error)])?
            .ok_or_else(|| unknown(any, path))
    }

    fn tcp_proxy(
        &self,
        message: &TcpProxyMessage,
        _listener: &Arc<ListenerInfo>,
        path: &Path,
    ) -> Found<Arc<dyn NetworkTerminal>> {
        let proxy = TcpProxy::from_proto(message, &Logs(self), path)?;
        Ok(proxy)
    }

    fn connection_manager(
        &self,
        message: &hcm::HttpConnectionManager,
        listener_stats: &Scope,
        quic: bool,
        path: &Path,
    ) -> Found<Arc<Hcm>> {
        let http = self.stats.http(&message.stat_prefix);
        let env = Env { root: &self.stats, http: &http };
        let routes = |message: &RouteConfiguration, at: &Path| -> Found<Arc<dyn RouteTable>> {
            let exists = |name: &str| self.cluster_names.iter().any(|known| known == name);
            let context = RouteContext {
                path: at.as_str(),
                cluster_exists: &exists,
                filters: &RouteFilters(env),
                runtime: self.runtime.clone(),
            };
            let table = RouteConfig::from_proto(message, &context).map_err(diagnostics)?;
            Ok(table)
        };
        let chain = |filters: &[hcm::HttpFilter], at: &Path| self.http_chain(filters, &env, at);
        let context = HcmContext {
            stats: &self.stats,
            listener_stats,
            sinks: &self.sinks,
            routes: &routes,
            chain: &chain,
            service_cluster: &self.service_cluster,
            quic,
            http2_stats: self.http2_stats.clone(),
            http3_stats: self.http3_stats.clone(),
        };
        Hcm::from_proto(message, &context, path)
    }

    fn http_chain(&self, filters: &[hcm::HttpFilter], env: &Env<'_>, path: &Path) -> Found<FilterChain> {
        let mut errors = Vec::new();
        let mut entries = Vec::new();
        let mut terminal: Option<Arc<dyn HttpTerminal>> = None;
        for (index, filter) in filters.iter().enumerate() {
            let at = path.index(index).field("typed_config");
            let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
                errors.push(Diagnostic::error(&at, "typed_config is required"));
                continue;
            };
            if is::<RouterMessage>(any) {
                match router(any, env, &at) {
                    Ok(router) => terminal = Some(router),
                    Err(found) => errors.extend(found),
                }
                continue;
            }
            match adit_filters::http_filter(any, env, at.as_str()) {
                Ok(Some(factory)) => {
                    entries.push(ChainEntry { name: filter.name.as_str().into(), disabled: filter.disabled, factory });
                }
                Ok(None) if filter.is_optional => {}
                Ok(None) => errors.extend(unknown(any, &at)),
                Err(error) => errors.push(diagnostic(error)),
            }
        }
        match terminal {
            Some(terminal) if errors.is_empty() => Ok(FilterChain { entries, terminal }),
            _ if errors.is_empty() => Err(vec![Diagnostic::error(path, "the last filter must be a terminal one")]),
            _ => Err(errors),
        }
    }
}

fn router(any: &Any, env: &Env<'_>, path: &Path) -> Found<Arc<dyn HttpTerminal>> {
    let message: RouterMessage = unpack(any).map_err(|error| vec![Diagnostic::error(path, error.to_string())])?;
    let router = Router::from_proto(&message, env.http, path.as_str()).map_err(diagnostics)?;
    Ok(router)
}

/// What routes say of filters.
struct RouteFilters<'a>(Env<'a>);

impl PerFilterConfigs for RouteFilters<'_> {
    fn compile(&self, filter_name: &str, config: &Any, at: &str) -> Result<PerFilterConfig, ConfigError> {
        let config = adit_filters::route_config(config, &self.0, at)?.ok_or_else(|| {
            ConfigError::new(at, format!("{} says nothing about the filter '{filter_name}'", type_name(config)))
        })?;
        Ok(PerFilterConfig { disabled: None, config: Some(config) })
    }
}

impl adit_udp_proxy::Factories for Logs<'_> {
    fn access_logs(&self, messages: &[AccessLogMessage], path: &Path) -> Found<Vec<Arc<dyn AccessLog>>> {
        Factories::access_logs(self.0, messages, path)
    }

    fn stats(&self) -> &Scope {
        &self.0.stats
    }
}

/// What a TCP or UDP proxy is built with.
struct Logs<'a>(&'a ServerFactories);

impl adit_tcp_proxy::Factories for Logs<'_> {
    fn access_logs(&self, messages: &[AccessLogMessage], path: &Path) -> Found<Vec<Arc<dyn AccessLog>>> {
        Factories::access_logs(self.0, messages, path)
    }

    fn stats(&self) -> &Scope {
        &self.0.stats
    }
}

impl adit_quic::Factories for ServerFactories {
    fn connection_manager(&self, message: &hcm::HttpConnectionManager, scope: &Scope, path: &Path) -> Found<Arc<Hcm>> {
        Self::connection_manager(self, message, scope, true, path)
    }

    fn access_logs(&self, messages: &[AccessLogMessage], path: &Path) -> Found<Vec<Arc<dyn AccessLog>>> {
        Factories::access_logs(self, messages, path)
    }

    fn tls(&self) -> &TlsEnv {
        &self.tls
    }

    fn workers(&self) -> usize {
        self.workers
    }
}
