//! A session that goes through an HTTP tunnel.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::udp::{DatagramPort, UdpCause, UdpRelayOptions, UdpTunnel, relay_udp};
use adit_filter::upstream::{Host, Report};
use adit_filter::{AccessLogType, ResponseFlag, StreamInfo};
use adit_http::StreamError;
use adit_io::LINGER;

use crate::config::TunnelPlan;
use crate::connect::{Connecting, Established};
use crate::inbox::{Inbox, Pushed};
use crate::session::Session;

/// A datagram from the client, on its way to the tunnel. What there is no room for is dropped and counted.
pub(crate) fn send(session: &Session, inbox: &Inbox, payload: &[u8]) {
    let stats = &session.proxy.cluster_stats;
    match inbox.push(payload) {
        Pushed::Taken => {}
        Pushed::Full => stats.sess_tunnel_buffer_overflow.inc(),
        Pushed::Closed => stats.sess_tx_errors.inc(),
    }
}

/// Makes the tunnel and relays until the session is over.
pub(crate) async fn run(session: Arc<Session>, inbox: Arc<Inbox>) {
    let Some(plan) = &session.proxy.tunnel else { return };
    let mut info = Box::new(session.stream_info());
    // The way there needs much and passes: it is in a box of its own.
    let established = {
        let connecting = Box::pin(Connecting::new(&session, plan, &mut info).run());
        tokio::select! {
            biased;
            established = connecting => established.ok_or(false),
            () = session.idle() => Err(true),
            () = session.link.worker.lifecycle.closing() => Err(false),
        }
    };
    match established {
        Ok(established) => relay(&session, plan, &inbox, established, &mut info).await,
        Err(true) => idle(&session, &mut info),
        Err(false) => {}
    }
    session.log(&mut info, AccessLogType::UdpSessionEnd);
}

async fn relay(session: &Session, plan: &TunnelPlan, inbox: &Inbox, up: Established, info: &mut StreamInfo) {
    let Established { send, recv, host, guard, buffer_limit } = up;
    if session.proxy.log_on_connected {
        session.log(&mut info.clone(), AccessLogType::UdpTunnelUpstreamConnected);
    }
    inbox.open();
    let timeout = session.proxy.idle_timeout;
    let options = UdpRelayOptions {
        idle_timeout: (!timeout.is_zero()).then_some(timeout),
        max_duration: None,
        closing: Some(session.link.worker.lifecycle.closing()),
    };
    let mut tunnel = UdpTunnel::new(recv, send, buffer_limit);
    let mut port = Client { session, inbox, host: &*host };
    let cause = tokio::select! {
        cause = relay_udp(&mut tunnel, &mut port, options) => cause,
        // Never ready: it only writes.
        () = session.log_periodically(info) => UdpCause::Closing,
    };
    match cause {
        UdpCause::Ended => {
            if plan.propagate_trailers
                && let Ok(Ok(Some(trailers))) =
                    tokio::time::timeout(LINGER, poll_fn(|cx| tunnel.poll_trailers(cx))).await
            {
                plan.keep_trailers(&trailers, &mut info.state);
            }
        }
        UdpCause::Stream(error) => {
            let flag = match error {
                StreamError::Reset(_) | StreamError::Stopped(_) => ResponseFlag::UpstreamRemoteReset,
                StreamError::Protocol(_) | StreamError::TooLarge(_) => ResponseFlag::UpstreamProtocolError,
                StreamError::Local(_) => ResponseFlag::LocalReset,
                _ => ResponseFlag::UpstreamConnectionTermination,
            };
            info.flags.set(flag);
            info.upstream_mut().transport_failure = Some(error.to_string().into());
            session.proxy.cluster_stats.sess_rx_errors.inc();
        }
        UdpCause::IdleTimeout => idle(session, info),
        UdpCause::Port(_) | UdpCause::MaxDuration | UdpCause::Closing => {}
    }
    drop(guard);
}

fn idle(session: &Session, info: &mut StreamInfo) {
    session.proxy.stats.idle_timeout.inc();
    info.flags.set(ResponseFlag::StreamIdleTimeout);
}

/// The client of a session, as its tunnel sees it.
struct Client<'a> {
    session: &'a Session,
    inbox: &'a Inbox,
    host: &'a dyn Host,
}

impl DatagramPort for Client<'_> {
    fn poll_send(&mut self, _cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<()>> {
        self.session.proxy.cluster_stats.sess_rx_datagrams.inc();
        self.host.report(Report::Bytes { sent: 0, received: payload.len() as u64 });
        self.session.reply(payload);
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(&[u8])) -> Poll<io::Result<()>> {
        self.inbox.poll_pop(cx).map(|payload| {
            self.session.proxy.cluster_stats.sess_tx_datagrams.inc();
            self.host.report(Report::Bytes { sent: payload.len() as u64, received: 0 });
            take(&payload);
            Ok(())
        })
    }
}
