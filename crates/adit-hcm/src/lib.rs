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
mod serving;
mod stats;
mod stream;
mod tunnel;
mod upgrade;
mod xfcc;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use adit_codec::ServerConn;
use adit_filter::{
    AccessLogType, BoxFuture, Connection, FilterChain, Lent, ListenerInfo, LogContext, NetworkTerminal, RouteTable,
    StreamInfo, WorkerEnv,
};
use adit_http::{RequestHead, ResponseHead};
use adit_io::{ConnInfo, Io};
use http::Version;
use tokio::time::Instant;

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
    async fn open_codec(
        &self,
        mut io: Io,
        shared: &Arc<ConnShared>,
    ) -> Result<(Version, Box<dyn ServerConn>, Lent), String> {
        let mut lent = Lent::default();
        let alpn = shared.info.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
        let http2 = match (self.config.codec, alpn) {
            (CodecType::Http1 | CodecType::Http3, _) => false,
            (CodecType::Http2, _) | (CodecType::Auto, Some("h2")) => true,
            (CodecType::Auto, Some(_)) => false,
            (CodecType::Auto, None) => {
                let idle = self.config.idle_timeout.map(|limit| Instant::now() + limit);
                let mut sniff = pin!(conn::sniff_http2(&mut io));
                poll_fn(|cx| {
                    if let Poll::Ready(http2) = sniff.as_mut().poll(cx) {
                        return Poll::Ready(http2);
                    }
                    if lent.closing.poll(cx, &*shared.worker.lifecycle).is_ready() {
                        return Poll::Ready(Err(conn::CLOSING.to_owned()));
                    }
                    let Some(idle) = idle else { return Poll::Pending };
                    lent.alarm.poll_until(cx, idle).map(|()| Err(conn::IDLE.to_owned()))
                })
                .await?
            }
        };
        Ok(if http2 {
            (Version::HTTP_2, Box::new(adit_h2::server(io, self.config.http2.clone())), lent)
        } else {
            (Version::HTTP_11, Box::new(adit_h1::server_for(io, self.config.http1.clone(), shared.clone())), lent)
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
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
        serving::serve(self, connection)
    }

    fn refused(&self, info: &mut StreamInfo) {
        self.stats.http.refused(info.conn.tls.is_some(), info.elapsed());
    }
}
