//! A stream whose tunnel stands: the chain that let it through, its timers and its codec (over HTTP/1) are gone.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adit_filter::{StandingTunnel, TunnelStream};

use crate::account::{Account, UpgradeAccount};
use crate::serving::Ends;
use crate::stream::Timer;

/// The tunnel and its account. Ready once both of its directions are over and the account is written.
pub(crate) struct Tunnel {
    /// Gone once it is over.
    pub(crate) tunnel: Option<Box<dyn StandingTunnel>>,
    pub(crate) stream: TunnelStream,
    /// Of `max_stream_duration`.
    pub(crate) max_duration: Option<Timer>,
    pub(crate) upgrade: Option<UpgradeAccount>,
    pub(crate) account: Account,
}

impl Tunnel {
    /// Ready once nothing of the tunnel is left but its account.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(tunnel) = &mut self.tunnel else { return Poll::Pending };
        if tunnel.poll_relay(cx, &mut self.stream).is_ready() {
            return Poll::Ready(());
        }
        let Some(timer) = &mut self.max_duration else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        self.account.hcm().stats.http.downstream_rq_max_duration_reached.inc();
        self.stream.explain("max_duration_timeout", None);
        Poll::Ready(())
    }
}

impl Future for Tunnel {
    /// What it says of how its connection ends.
    type Output = Ends;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ends> {
        let me = &mut *self;
        ready!(me.poll_over(cx));
        me.tunnel = None;
        me.upgrade = None;
        Poll::Ready(me.account.close_tunnel(&mut me.stream))
    }
}
