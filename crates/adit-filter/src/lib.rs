//! The seams above codecs: filters of listeners, connections and requests, what they share, and what they ask of
//! clusters.
//!
//! Deliberately unknown here: configuration, concrete filters, how a host is chosen or a log line is written. Each of those
//! is a crate that implements or uses a trait of this one, so that every layer can be tested with a fake of the next.
//!
//! Read first: [`NetworkTerminal`] with [`Connection`]; [`HttpFilter`], [`HttpTerminal`] with [`HttpStream`];
//! [`upstream::Cluster`].
//!
//! Floor F1, above adit-codec.

mod flags;
mod http_filter;
mod info;
mod lent;
mod lifecycle;
mod network;
mod reply;
mod route;
mod runtime_values;
mod throttle;
mod tunnel;
mod udp;
pub mod upstream;

pub use flags::{ResponseFlag, ResponseFlags};
pub use http_filter::{
    ChainEntry, FilterChain, HttpFilter, HttpFilterFactory, HttpStream, HttpTerminal, ResponseHook, Verdict, Waiting,
    Watch,
};
pub use info::{AccessLog, AccessLogType, LogContext, StreamInfo, Timing, UpstreamInfo};
pub use lent::{Alarm, Closing, Lent};
pub use lifecycle::{Lifecycle, Spawn, WorkerEnv};
pub use network::{
    Connection, ListenerFilter, ListenerFilterVerdict, ListenerInfo, NetworkFilter, NetworkTerminal, NetworkVerdict,
};
pub use reply::LocalReply;
pub use route::{PerFilterConfig, Route, RouteTable};
pub use runtime_values::RuntimeValues;
pub use tunnel::{StandingTunnel, TunnelStream};
pub use udp::{Datagram, DatagramSocket, QuicFilter, UdpHandler, UdpLink, UdpListenerFilter};

/// A boxed future, as trait methods return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Boxes a future where it is made: what it will need later is not copied there.
#[inline(always)]
pub fn boxed<'a, F: Future + Send + 'a>(make: impl FnOnce() -> F) -> BoxFuture<'a, F::Output> {
    let future: Box<F> = Box::write(Box::new_uninit(), make());
    Box::into_pin(future)
}

/// A result that is there at once as a rule: then nothing is allocated to wait for it.
pub enum Soon<'a, T> {
    /// There already; `None` once it was taken.
    Now(Option<T>),
    /// To be waited for.
    Later(BoxFuture<'a, T>),
}

// Nothing in it is pinned but what the box holds.
impl<T> Unpin for Soon<'_, T> {}

impl<T> Future for Soon<'_, T> {
    type Output = T;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        match self.get_mut() {
            // Asked again after its result, it stays pending: that is a mistake of who asks.
            Self::Now(result) => result.take().map_or(std::task::Poll::Pending, std::task::Poll::Ready),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}
