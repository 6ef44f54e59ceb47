//! The suite that every codec passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use adit_codec::conformance::{Abilities, Harness, Pair};
use adit_h3::ClientConfig;
use common::{Link, allow_connect, link};

struct OverQuic;

impl Harness for OverQuic {
    fn abilities(&self) -> Abilities {
        Abilities {
            trailers: true,
            parallel: true,
            codes: true,
            stops: true,
            survives_refusal: true,
            survives_reset: true,
            in_flight: (1 << 20) + (256 << 10),
        }
    }

    fn pair(&self) -> Pin<Box<dyn Future<Output = Pair> + Send + '_>> {
        Box::pin(async {
            let Link { server, client, .. } = link().await;
            Pair {
                server: Box::new(adit_h3::server(server, Arc::new(allow_connect()))),
                client: adit_h3::client(client, Arc::new(ClientConfig::default())),
            }
        })
    }
}

adit_codec::conformance_suite!(OverQuic);
