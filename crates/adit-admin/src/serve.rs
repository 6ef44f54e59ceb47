//! The admin interface on a socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{Admin, Record, handlers};

/// What bounds the admin interface.
#[derive(Debug, Clone, Copy)]
pub struct AdminLimits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// How long a request's head may take, and a connection be idle.
    pub head_timeout: Duration,
}

impl Default for AdminLimits {
    fn default() -> Self {
        Self { connections: 128, head_timeout: Duration::from_secs(60) }
    }
}

/// Serves until dropped; dropping ends every connection.
pub async fn serve(listener: TcpListener, admin: Admin, limits: AdminLimits) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (socket, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin interface cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        let ends = (remote, socket.local_addr().unwrap_or(remote));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(handle(&admin, request, ends)) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_headers(100)
                .serve_connection(TokioIo::new(socket), service);
            // A client that breaks off is its own concern.
            let _ = connection.await;
            drop(permit);
        });
    }
}

fn handle(
    admin: &Admin,
    request: Request<Incoming>,
    (remote, local): (SocketAddr, SocketAddr),
) -> Response<Full<Bytes>> {
    let (request, _body) = request.into_parts();
    let path_and_query = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = if (admin.allow)(path_and_query) {
        handlers::answer(admin, &request.method, request.uri.path(), request.uri.query())
    } else {
        handlers::forbidden(request.uri.path())
    };
    let sent = answer.body.len();
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
    let status = response.status();
    (admin.log)(&Record { remote, local, request: &request, status, headers: response.headers(), sent });
    if answer.then_quit {
        admin.control.quit();
    }
    response
}
