//! The suite that every byte stream passes, over TCP and Unix sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use adit_io::conformance::{Abilities, Harness};
use adit_io::{Address, ConnInfo, Io, Stream, UnixTransport};

fn info() -> Arc<ConnInfo> {
    Arc::new(ConnInfo::new(ConnInfo::next_id(), Address::internal_client(), Address::internal_client()))
}

/// The kernel's own buffers are the kernel's own business.
const ABILITIES: Abilities =
    Abilities { resets: true, codes: false, stops: false, in_order: false, in_flight: 64 << 20 };

struct Tcp;

impl Harness for Tcp {
    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn pair(&self) -> Pin<Box<dyn Future<Output = (Io, Io)> + Send + '_>> {
        Box::pin(async {
            let (near, far) = adit_testkit::tcp_pair().await;
            (Io::tcp(near, info()), Io::tcp(far, info()))
        })
    }
}

struct Unix;

impl Harness for Unix {
    fn abilities(&self) -> Abilities {
        Abilities { resets: false, ..ABILITIES }
    }

    fn pair(&self) -> Pin<Box<dyn Future<Output = (Io, Io)> + Send + '_>> {
        Box::pin(async {
            let (near, far) = tokio::net::UnixStream::pair().unwrap();
            let io = |socket| Io::new(Stream::Other(Box::new(UnixTransport::new(socket))), info());
            (io(near), io(far))
        })
    }
}

mod tcp {
    adit_io::byte_stream_suite!(super::Tcp);
}

mod unix {
    adit_io::byte_stream_suite!(super::Unix);
}
