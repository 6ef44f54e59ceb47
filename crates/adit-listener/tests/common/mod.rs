//! A worker process in miniature: real workers, listeners from messages, and a terminal that says what it was given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::{Diagnostic, Path, pack};
use adit_filter::upstream::{Cluster, Clusters};
use adit_filter::{
    AccessLog, BoxFuture, Connection, Lifecycle, ListenerFilter, ListenerInfo, LogContext, NetworkFilter,
    NetworkTerminal, NetworkVerdict, ResponseFlag, RuntimeValues, Spawn, StreamInfo, WorkerEnv,
};
use adit_io::{Io, Value};
use adit_listener::{Factories, GlobalLimit, Listener, ListenerPlan, NetworkChain, TransportAcceptor, TransportError};
use adit_runtime::{Drain, Workers, WorkersOptions};
use adit_stats::{Scope, Store};
use adit_testkit::expect_value;
use http::HeaderName;
use prost_types::Any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Writes one line that tells what it knows of the connection, then what it reads, then ends.
pub struct Teller;

impl NetworkTerminal for Teller {
    fn serve(self: Arc<Self>, mut connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
        Box::pin(async move {
            let info = connection.stream_info();
            let facts = &info.conn;
            let metadata = match info.metadata.get("tlv").and_then(|tlv| tlv.walk(["key"])) {
                Some(Value::String(text)) => text.to_string(),
                _ => "-".into(),
            };
            let paced = connection.io.tcp_socket().is_some_and(|socket| {
                let control = socket2::SockRef::from(socket.as_ref()).tcp_congestion();
                control.is_ok_and(|name| name.starts_with(b"bbr"))
            });
            let line = format!(
                "worker={} chain={} local={} remote={} paced={paced} direct={} alpn={:?} tlv={metadata}\n",
                connection.worker.index,
                info.filter_chain_name.as_deref().unwrap_or("-"),
                facts.local,
                facts.remote,
                facts.direct_remote(),
                facts.offered_alpn,
            );
            let closing = connection.worker.lifecycle.closing();
            let serve = async {
                connection.io.write_all(line.as_bytes()).await.ok()?;
                let mut buffer = [0; 1024];
                loop {
                    match connection.io.read(&mut buffer).await.ok()? {
                        0 => break,
                        n => connection.io.write_all(buffer.get(..n)?).await.ok()?,
                    }
                }
                connection.io.shutdown().await.ok()
            };
            tokio::select! {
                _ = serve => {}
                () = closing => {}
            }
            Some(Box::new(info))
        })
    }
}

/// Refuses connections whose chain is called `refuse`.
struct Refuse;

impl NetworkFilter for Refuse {
    fn on_connection<'a>(&'a self, _connection: &'a mut Connection) -> BoxFuture<'a, NetworkVerdict> {
        let details = "refused by a test".to_owned();
        let flag = Some(ResponseFlag::RateLimited);
        Box::pin(std::future::ready(NetworkVerdict::Close { delay: Duration::ZERO, details, flag }))
    }
}

/// A "handshake" that wants the byte `!` first.
struct Bang;

impl TransportAcceptor for Bang {
    fn accept(&self, mut io: Io) -> BoxFuture<'_, Result<Io, TransportError>> {
        Box::pin(async move {
            match io.read_u8().await {
                Ok(b'!') => Ok(io),
                _ => Err(TransportError::new("no bang")),
            }
        })
    }
}

/// Keeps what is logged as text.
#[derive(Clone, Default)]
pub struct Lines(pub Arc<Mutex<Vec<String>>>);

impl AccessLog for Lines {
    fn log(&self, context: &LogContext<'_>) {
        let info = context.info;
        let line = format!(
            "{} {} {} {}",
            info.flags,
            info.details.as_deref().unwrap_or("-"),
            info.termination_details.as_deref().unwrap_or("-"),
            info.downstream_transport_failure.as_deref().unwrap_or("-"),
        );
        self.0.lock().unwrap().push(line);
    }

    fn request_fields(&self) -> &[HeaderName] {
        &[]
    }

    fn response_fields(&self) -> &[HeaderName] {
        &[]
    }
}

pub struct TestFactories {
    pub stats: Scope,
    pub lines: Lines,
}

impl Factories for TestFactories {
    fn network_chain(
        &self,
        filters: &[pb::Filter],
        _listener: &Arc<ListenerInfo>,
        _scope: &Scope,
        _path: &Path,
    ) -> Result<NetworkChain, Vec<Diagnostic>> {
        let mut chain = NetworkChain::new(Arc::new(Teller));
        if filters.iter().any(|filter| filter.name == "refuse") {
            chain.filters.push(Arc::new(Refuse));
        }
        Ok(chain)
    }

    fn transport_socket(
        &self,
        _message: &core::TransportSocket,
        _scope: &Scope,
        _path: &Path,
    ) -> Result<Option<Arc<dyn TransportAcceptor>>, Vec<Diagnostic>> {
        Ok(Some(Arc::new(Bang)))
    }

    fn listener_filter(
        &self,
        _config: &Any,
        _scope: &Scope,
        _path: &Path,
    ) -> Option<Result<Arc<dyn ListenerFilter>, Vec<Diagnostic>>> {
        None
    }

    fn access_logs(
        &self,
        messages: &[AccessLogMessage],
        _path: &Path,
    ) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>> {
        Ok(messages.iter().map(|_| Arc::new(self.lines.clone()) as Arc<dyn AccessLog>).collect())
    }

    fn stats(&self) -> &Scope {
        &self.stats
    }
}

struct NoClusters;

impl Clusters for NoClusters {
    fn get(&self, _name: &str) -> Option<Arc<dyn Cluster>> {
        None
    }
}

struct Unused;

impl Lifecycle for Unused {
    fn should_drain(&self) -> bool {
        false
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl Spawn for Unused {
    fn spawn(&self, _task: BoxFuture<'static, ()>) {}
}

/// Two workers.
pub struct World {
    pub workers: Workers,
    pub store: Store,
    pub lines: Lines,
    pub runtime: RuntimeValues,
    pub global: Arc<GlobalLimit>,
}

impl World {
    pub fn new() -> Self {
        let options = WorkersOptions { count: 2, drain: Drain::new(), ..Default::default() };
        let runtime = RuntimeValues::default();
        Self {
            workers: Workers::start(options).unwrap(),
            store: Store::new(2),
            lines: Lines::default(),
            global: GlobalLimit::new(None, runtime.clone()),
            runtime,
        }
    }

    pub fn plan(&self, message: &pb::Listener) -> Result<Arc<ListenerPlan>, Vec<Diagnostic>> {
        let factories = TestFactories { stats: self.store.root(), lines: self.lines.clone() };
        ListenerPlan::from_proto(message, &factories, &Path::from("l"))
    }

    pub fn bind(&self, message: &pb::Listener) -> Listener {
        let plan = self.plan(message).unwrap_or_else(|problems| panic!("{problems:?}"));
        Listener::bind(plan, 2, self.global.clone()).unwrap()
    }

    pub fn env(&self, index: usize) -> WorkerEnv {
        WorkerEnv {
            index,
            clusters: Arc::new(NoClusters),
            spawn: Arc::new(Unused),
            lifecycle: Arc::new(Unused),
            runtime: self.runtime.clone(),
        }
    }

    pub fn start(&self, message: &pb::Listener) -> Listener {
        let listener = self.bind(message);
        for worker in self.workers.iter() {
            listener.start(worker, &self.env(worker.index())).unwrap();
        }
        listener
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.store.counter_value(name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    pub fn gauge(&self, name: &str) -> u64 {
        self.store.gauge_value(name).unwrap_or_else(|| panic!("no gauge {name}"))
    }

    /// Waits for a counter: the worker may count after the peer sees the end.
    pub async fn expect_counter(&self, name: &str, wanted: u64) {
        expect_value(name, wanted, || self.counter(name)).await;
    }

    /// Waits for a gauge.
    pub async fn expect_gauge(&self, name: &str, wanted: u64) {
        expect_value(name, wanted, || self.gauge(name)).await;
    }

    /// Waits until that many lines are logged: all of them.
    pub async fn logged(&self, lines: usize) -> Vec<String> {
        expect_value("lines logged", lines, || self.lines.0.lock().unwrap().len()).await;
        self.lines.0.lock().unwrap().clone()
    }
}

pub fn address(text: &str, port: u32) -> core::Address {
    let socket = core::SocketAddress {
        address: text.into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

pub fn chain(name: &str) -> pb::FilterChain {
    let filter = pb::Filter { name: name.into(), config_type: None };
    pb::FilterChain { name: name.into(), filters: vec![filter], ..Default::default() }
}

/// A listener called `l` with the stat prefix `l`, on a port of the kernel's choice, with one chain and one log.
pub fn listener() -> pb::Listener {
    pb::Listener {
        name: "l".into(),
        stat_prefix: "l".into(),
        address: Some(address("127.0.0.1", 0)),
        filter_chains: vec![chain("main")],
        access_log: vec![AccessLogMessage::default()],
        ..Default::default()
    }
}

pub fn filter<T: prost::Name>(message: &T) -> pb::ListenerFilter {
    let config = pb::listener_filter::ConfigType::TypedConfig(pack(message));
    pb::ListenerFilter { name: "f".into(), filter_disabled: None, config_type: Some(config) }
}

pub fn socket(listener: &Listener) -> std::net::SocketAddr {
    listener.addresses()[0].socket().unwrap()
}
