//! The admin interface of this process: its address, what it may be asked, its access log.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use adit_admin::{Admin, AdminLimits, Record};
use adit_config::proto::envoy::config::core::v3 as core;
use adit_filter::{AccessLog, AccessLogType, LogContext, StreamInfo};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{Address, ConnInfo};
use adit_match::StringMatcher;
use adit_runtime::Spawner;
use adit_upstream::ClusterManager;
use anyhow::{Context, Result, bail};
use http::Version;
use tokio::net::TcpListener;

use crate::build::Plans;
use crate::control::ServerControl;
use crate::options::Options;
use crate::views::ServerViews;

/// `admin` of the bootstrap, checked.
pub(crate) struct AdminPlan {
    pub(crate) logs: Vec<Arc<dyn AccessLog>>,
    pub(crate) allow: Vec<StringMatcher>,
}

/// What the admin interface works on, besides the plans.
pub(crate) struct AdminParts {
    pub(crate) workers: usize,
    pub(crate) control: Arc<ServerControl>,
    pub(crate) manager: Arc<ClusterManager>,
    pub(crate) refresh: Arc<dyn Fn() + Send + Sync>,
}

/// Binds and serves the admin interface, where the bootstrap has one.
pub(crate) async fn start(plans: &Plans, options: &Options, parts: AdminParts, main: &Spawner) -> Result<()> {
    let Some(admin) = &plans.bootstrap.admin else { return Ok(()) };
    let Some(address) = admin.address.as_ref() else { return Ok(()) };
    let socket = socket(address)?;
    let listener =
        TcpListener::bind(&socket).await.with_context(|| format!("the admin interface cannot listen on {socket}"))?;
    let local = listener.local_addr()?;
    if let Some(path) = &options.admin_address_path {
        std::fs::write(path, local.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    tracing::info!(address = %local, "admin interface");
    let views = ServerViews {
        options: options.clone(),
        concurrency: parts.workers,
        started: (Instant::now(), SystemTime::now()),
        control: parts.control.clone(),
        clusters: parts.manager,
        layers: plans.layers.clone(),
        certificates: plans.certificates.clone(),
        bootstrap: adit_config::to_json(&plans.bootstrap).unwrap_or_default(),
    };
    let plan = plans.admin.clone();
    let logged = plan.clone();
    let admin = Admin {
        stats: plans.store.clone(),
        views: Arc::new(views),
        control: parts.control,
        refresh: parts.refresh,
        allow: Arc::new(move |path| plan.allow.is_empty() || plan.allow.iter().any(|matcher| matcher.matches(path))),
        log: Arc::new(move |record| logged.log(record)),
    };
    drop(main.spawn(adit_admin::serve(listener, admin, AdminLimits::default())));
    Ok(())
}

fn socket(address: &core::Address) -> Result<String> {
    use core::address::Address;
    use core::socket_address::PortSpecifier;
    match &address.address {
        Some(Address::SocketAddress(socket)) => {
            let port = match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => port,
                _ => bail!("admin.address: port_value is required"),
            };
            let host = &socket.address;
            Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        }
        _ => bail!("admin.address: only a socket_address is implemented by adit"),
    }
}

impl AdminPlan {
    fn log(&self, record: &Record<'_>) {
        if self.logs.is_empty() {
            return;
        }
        let conn = ConnInfo::new(ConnInfo::next_id(), Address::Ip(record.local), Address::Ip(record.remote));
        let mut info = StreamInfo::new(Arc::new(conn));
        info.protocol = Some(Version::HTTP_11);
        info.response_code = record.status.as_u16();
        info.bytes_sent = record.sent as u64;
        info.timing.end = Some(info.elapsed());
        let mut request = RequestHead::new(RequestKind::Plain, record.request.method.clone());
        request.path = record.request.uri.path_and_query().cloned();
        request.headers = record.request.headers.clone();
        let host = request.headers.remove(http::header::HOST);
        request.authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
        let mut response = ResponseHead::new(record.status);
        response.headers = record.headers.clone();
        let context = LogContext {
            request: Some(&request),
            response: Some(&response),
            kind: AccessLogType::DownstreamEnd,
            ..LogContext::new(&info)
        };
        for log in &self.logs {
            log.log(&context);
        }
    }
}
