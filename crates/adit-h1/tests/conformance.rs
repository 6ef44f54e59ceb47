//! The suite of adit-codec over a TCP loopback connection and over an in-memory transport.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::pin::Pin;
use std::sync::Arc;

use adit_codec::conformance::{Abilities, Harness, Pair};
use adit_h1::{ClientConfig, ServerConfig};
use adit_io::Io;

fn connected(client: Io, server: Io) -> Pair {
    let serving = ServerConfig { enable_trailers: true, ..ServerConfig::default() };
    let asking = ClientConfig { enable_trailers: true, ..ClientConfig::default() };
    Pair {
        server: Box::new(adit_h1::server(server, Arc::new(serving))),
        client: adit_h1::client_parts(client, Arc::new(asking)),
    }
}

fn abilities(in_flight: usize) -> Abilities {
    Abilities {
        trailers: true,
        parallel: false,
        codes: false,
        stops: false,
        survives_refusal: false,
        survives_reset: false,
        in_flight,
    }
}

/// Over sockets.
mod tcp {
    use super::*;

    struct Loopback;

    impl Harness for Loopback {
        fn abilities(&self) -> Abilities {
            // What the kernel takes into its socket buffers at most (tcp_rmem, tcp_wmem), and one chunk of ours.
            abilities(16 << 20)
        }

        fn pair(&self) -> Pin<Box<dyn Future<Output = Pair> + Send + '_>> {
            Box::pin(async {
                let (client, server) = common::pair().await;
                connected(common::io(client), common::io(server))
            })
        }
    }

    adit_codec::conformance_suite!(Loopback);
}

/// Over a transport in memory.
mod memory {
    use super::*;

    struct InMemory;

    impl Harness for InMemory {
        fn abilities(&self) -> Abilities {
            abilities(1 << 20)
        }

        fn pair(&self) -> Pin<Box<dyn Future<Output = Pair> + Send + '_>> {
            Box::pin(async {
                let (client, server) = common::duplex::pair(64 << 10);
                connected(client, server)
            })
        }
    }

    adit_codec::conformance_suite!(InMemory);
}
