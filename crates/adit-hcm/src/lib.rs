//! The HTTP connection manager (`envoy.filters.network.http_connection_manager`): a connection becomes streams, each is
//! checked, routed, decided upon and sent through its filter chain, counted and logged.
//!
//! Deliberately unknown here: how a route is matched, where a request goes, how an upstream is reached, what a filter does:
//! those come in as [`adit_filter::RouteTable`], [`adit_filter::FilterChain`] and their traits.
//!
//! Read first: [`Hcm`], then `conn.rs` (a connection) and `stream.rs` (a request).
//!
//! Floor F3.

mod account;
mod config;
mod conn;
mod date;
mod filters;
mod path;
mod refused;
mod request;
mod response;
mod stats;
mod stream;
mod tunnel;
mod upgrade;
mod xfcc;

use std::sync::Arc;

use adit_codec::ServerConn;
use adit_filter::{
    AccessLogType, BoxFuture, Connection, FilterChain, ListenerInfo, LogContext, NetworkTerminal, RouteTable,
    StreamInfo, WorkerEnv,
};
use adit_http::{RequestHead, ResponseHead};
use adit_io::{ConnInfo, Io};
use http::Version;

use config::{CodecType, Config};
pub use config::{HcmContext, Make};
use conn::ConnShared;
use stats::Stats;
use upgrade::UpgradeTable;

/// One configured HTTP connection manager; shared by every connection of its filter chain on every worker.
pub struct Hcm {
    config: Config,
    stats: Stats,
    routes: Arc<dyn RouteTable>,
    chain: Arc<FilterChain>,
    upgrades: UpgradeTable,
}

impl Hcm {
    /// The codec for a connection: fixed by `codec_type`, else by ALPN, else by the first bytes.
    async fn open_codec(&self, mut io: Io, shared: &Arc<ConnShared>) -> Result<(Version, Box<dyn ServerConn>), String> {
        let alpn = shared.info.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
        let http2 = match (self.config.codec, alpn) {
            (CodecType::Http1 | CodecType::Http3, _) => false,
            (CodecType::Http2, _) | (CodecType::Auto, Some("h2")) => true,
            (CodecType::Auto, Some(_)) => false,
            (CodecType::Auto, None) => {
                let sniff = async {
                    tokio::select! {
                        biased;
                        http2 = conn::sniff_http2(&mut io) => http2,
                        () = shared.worker.lifecycle.closing() => Err(conn::CLOSING.to_owned()),
                    }
                };
                match self.config.idle_timeout {
                    Some(limit) => tokio::time::timeout(limit, sniff).await.map_err(|_| conn::IDLE.to_owned())??,
                    None => sniff.await?,
                }
            }
        };
        Ok(if http2 {
            (Version::HTTP_2, Box::new(adit_h2::server(io, self.config.http2.clone())))
        } else {
            (Version::HTTP_11, Box::new(adit_h1::server_for(io, self.config.http1.clone(), shared.clone())))
        })
    }

    fn log(
        &self,
        info: &StreamInfo,
        request: Option<&RequestHead>,
        response: Option<&ResponseHead>,
        kind: AccessLogType,
    ) {
        for log in &self.config.access_logs {
            log.log(&LogContext { request, response, kind, ..LogContext::new(info) });
        }
    }
}

/// A connection of streams that a QUIC listener accepted.
pub struct Session {
    /// Facts about the connection.
    pub info: Arc<ConnInfo>,
    /// The listener it came by.
    pub listener: Arc<ListenerInfo>,
    /// `%FILTER_CHAIN_NAME%`.
    pub filter_chain_name: Option<Arc<str>>,
    /// What the worker lends.
    pub worker: Arc<WorkerEnv>,
    /// Held until the connection is over.
    pub guards: Vec<Box<dyn Send>>,
}

impl Hcm {
    /// What the HTTP/3 codec is to be told; `None` unless `codec_type` is HTTP3.
    pub fn http3(&self) -> Option<&Arc<adit_h3::ServerConfig>> {
        (self.config.codec == CodecType::Http3).then_some(&self.config.http3)
    }

    /// Serves an HTTP/3 connection to its end; the result is what the listener's own access log reports.
    pub async fn serve_http3(self: Arc<Self>, codec: Box<dyn ServerConn>, session: Session) -> StreamInfo {
        conn::serve_session(self, codec, session).await
    }
}

impl NetworkTerminal for Hcm {
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, StreamInfo> {
        conn::serve(self, connection)
    }

    fn refused(&self, info: &mut StreamInfo) {
        self.stats.http.refused(info.conn.tls.is_some(), info.elapsed());
    }
}
