//! `envoy.filters.network.echo`: sends back what comes.

use std::sync::Arc;

use adit_filter::{BoxFuture, Connection, NetworkTerminal, StreamInfo};
use adit_io::Io;
use tokio::io::AsyncWriteExt;

/// The most that is held of one connection, in bytes.
const CHUNK: usize = 64 << 10;

pub(super) struct Echo;

impl NetworkTerminal for Echo {
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
        Box::pin(async move {
            let mut info = connection.stream_info();
            let Connection { mut io, worker, guards, .. } = connection;
            let ended = tokio::select! {
                ended = echo(&mut io, &mut info) => ended,
                () = worker.lifecycle.closing() => io.shutdown().await,
            };
            if ended.is_err() {
                io.abort();
            }
            drop(guards);
            info.timing.end = Some(info.elapsed());
            Some(Box::new(info))
        })
    }
}

async fn echo(io: &mut Io, info: &mut StreamInfo) -> std::io::Result<()> {
    loop {
        let there = io.fill(1, CHUNK).await?.len();
        if there == 0 {
            return io.shutdown().await;
        }
        info.bytes_received += there as u64;
        let chunk = io.take_ahead(there);
        io.write_all(&chunk).await?;
        io.flush().await?;
        info.bytes_sent += there as u64;
    }
}
