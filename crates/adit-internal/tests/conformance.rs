//! The suite that every byte stream passes, over pairs of every size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use adit_internal::{Limits, pair};
use adit_io::conformance::{Abilities, Harness};
use adit_io::{Address, ConnInfo, Io, Stream};

/// `buffer_size_kb`.
struct Internal(u32);

impl Harness for Internal {
    fn abilities(&self) -> Abilities {
        // The high mark; not a byte lies anywhere else.
        Abilities { resets: true, codes: true, stops: true, in_order: true, in_flight: self.0 as usize * 1024 }
    }

    fn pair(&self) -> Pin<Box<dyn Future<Output = (Io, Io)> + Send + '_>> {
        Box::pin(async {
            let (near, far) = pair(Limits::from_kb(self.0).unwrap());
            let io = |stream| {
                let address = Address::internal_client();
                let info = ConnInfo::new(ConnInfo::next_id(), address.clone(), address);
                Io::new(Stream::Other(Box::new(stream)), Arc::new(info))
            };
            (io(near), io(far))
        })
    }
}

/// What fits in 1 KiB is less than some cases send before somebody reads.
mod smallest {
    adit_io::byte_stream_suite!(super::Internal(16));
}

mod usual {
    adit_io::byte_stream_suite!(super::Internal(1024));
}

mod largest {
    adit_io::byte_stream_suite!(super::Internal(8192));
}
