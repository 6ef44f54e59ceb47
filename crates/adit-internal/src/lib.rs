//! User-space sockets: two linked byte streams inside one process, and listeners to be reached by name.
//!
//! [`pair`] gives two ends that move [`Bytes`](bytes::Bytes) from one to the other without a copy. Each direction is a
//! queue bounded by two marks: a writer waits once the high mark is reached, and is woken when the reader has come down
//! to the low one, which is half of it. Each direction has its own end, and an end is told apart from a reset:
//!
//! | what one end does | what the other end reads, after the bytes on their way | what it gets when it writes |
//! |---|---|---|
//! | ends its direction (`poll_shutdown`, `end` of a sink) | the end | its bytes are taken |
//! | aborts, resets, or drops a sink unfinished | a reset with its code | the same, until the source goes too |
//! | stops or drops its source | | stopped, with its code |
//! | drops the stream without an end | a reset | stopped |
//! | ends its direction and drops the stream | the end | stopped |
//!
//! [`InternalListeners`] is the registry: Envoy's internal listeners, reached through `envoy_internal_address`.
//!
//! Deliberately unknown here: what flows, filter chains, clusters, who accepts. Nothing is spawned, no kernel object is
//! used, no timer runs.
//!
//! Read first: [`pair`], [`InternalStream`], [`InternalListeners`].
//!
//! Floor F2. An idle pair is about 500 bytes.
//!
//! ```
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let (mut near, mut far) = adit_internal::pair(adit_internal::Limits::default());
//! near.write_all(b"hello").await?;
//! near.shutdown().await?;
//! let mut text = String::new();
//! far.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello");
//! # Ok(()) }
//! ```

mod queue;
mod registry;
mod stream;

pub use queue::Limits;
pub use registry::{
    Accept, Acceptor, BindError, Binding, ConnectError, DEFAULT_MAX_HOPS, InternalListeners, Passed, Refused,
};
pub use stream::{InternalSink, InternalSource, InternalStream, pair};
