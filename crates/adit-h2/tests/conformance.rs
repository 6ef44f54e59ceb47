//! The suite that every codec passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use adit_codec::conformance::{Abilities, Harness, Pair};
use adit_h2::{ClientConfig, ServerConfig};
use common::{allow_connect, io, sockets};

struct OverTcp;

impl Harness for OverTcp {
    fn abilities(&self) -> Abilities {
        Abilities {
            trailers: true,
            parallel: true,
            codes: true,
            // RST_STREAM ends both directions: a receiver's stop is told once its own side has ended.
            stops: false,
            survives_refusal: true,
            survives_reset: true,
            in_flight: (1 << 20) + (256 << 10),
        }
    }

    fn pair(&self) -> Pin<Box<dyn Future<Output = Pair> + Send + '_>> {
        Box::pin(async {
            let (dialled, accepted) = sockets().await;
            let cfg: ServerConfig = allow_connect();
            Pair {
                server: Box::new(adit_h2::server(io(accepted), Arc::new(cfg))),
                client: adit_h2::client(io(dialled), Arc::new(ClientConfig::default())),
            }
        })
    }
}

adit_codec::conformance_suite!(OverTcp);
