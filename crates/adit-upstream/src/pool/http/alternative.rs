//! HTTP/3 with an origin that is known to speak it, ahead of TCP (`alternate_protocols_cache_options`).

use std::sync::Arc;
use std::time::Duration;

use adit_filter::upstream::{ConnectFailure, FailureKind, HttpUpstream, Need};
use http::Version;
use tokio::time::Instant;

use super::{Key, MadeWith, Wish};
use crate::alternate::AlternateProtocols;
use crate::cluster::Core;
use crate::host::HostState;
use crate::worker::WorkerCluster;

/// How long a client waits for HTTP/3 alone, where TCP would do as well (Envoy's head start).
const HEAD_START: Duration = Duration::from_millis(300);

/// How HTTP/3 is spoken with an origin.
pub(super) struct Http3 {
    name: Box<str>,
    port: u16,
    made_with: MadeWith,
}

impl WorkerCluster {
    /// How HTTP/3 is spoken with the origin, where it is known to.
    pub(super) fn http3(&self, host: &Arc<HostState>, need: &Need<'_>) -> Option<Http3> {
        let alternate = self.core.plan.http.alternate.as_ref()?;
        let port = host.address().socket()?.port();
        let name: Box<str> = {
            let quic = self.core.plan.transport(host.facts.transport)?.quic()?;
            let ctx = self.context(host, need, &[])?;
            quic.server_name(&ctx)?.into()
        };
        if !alternate.usable(&name, port, Instant::now()) {
            return None;
        }
        let made_with = self.key(host, need, Some(Version::HTTP_3), Some(name.clone()));
        Some(Http3 { name, port, made_with })
    }

    /// A stream over HTTP/3; `None` when there was none within its head start: TCP is to be used.
    pub(super) async fn acquire_http3(
        &self,
        host: &Arc<HostState>,
        wish: Wish,
        http3: Http3,
    ) -> Option<Result<HttpUpstream, ConnectFailure>> {
        let alternate = self.core.plan.http.alternate.as_ref()?;
        let Http3 { name, port, made_with } = http3;
        let trying = self.acquire_from(host.clone(), wish, made_with);
        match tokio::time::timeout(HEAD_START, trying).await {
            Ok(Err(failure))
                if matches!(failure.kind, FailureKind::Remote | FailureKind::Timeout | FailureKind::Local) =>
            {
                None
            }
            Ok(settled) => Some(settled),
            Err(_) => {
                // It may still come to stand, which clears this.
                alternate.slow(&name, port, Instant::now() + self.core.plan.connect_timeout);
                None
            }
        }
    }
}

/// The cache that a pool of HTTP/3 reports to, and the origin.
pub(super) fn alternative<'a>(
    core: &'a Core,
    host: &HostState,
    key: &'a Key,
) -> Option<(&'a AlternateProtocols, &'a str, u16)> {
    let name = key.alternative.as_deref()?;
    Some((core.plan.http.alternate.as_deref()?, name, host.address().socket()?.port()))
}
