//! `envoy.filters.network.direct_response`: says one thing and hangs up.

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::extensions::filters::network::direct_response::v3 as pb;
use adit_filter::{BoxFuture, Connection, NetworkTerminal, StreamInfo};
use adit_io::Io;
use adit_match::ConfigError;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use crate::unpack::read;

/// The longest that a peer may take to read the response, and then to close: a socket closed with unread bytes is reset,
/// and a reset may overtake the response.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of what the peer still sends, at once, in bytes.
const CHUNK: usize = 16 << 10;

pub(super) struct DirectResponse(Bytes);

impl DirectResponse {
    pub fn new(message: &pb::Config, path: &str) -> Result<Self, ConfigError> {
        let response = message.response.as_ref();
        let response = response.map(|source| read(source, &format!("{path}.response"))).transpose()?;
        Ok(Self(response.unwrap_or_default().into()))
    }
}

impl NetworkTerminal for DirectResponse {
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
        Box::pin(async move {
            let mut info = connection.stream_info();
            let Connection { mut io, worker, guards, .. } = connection;
            let answered = tokio::select! {
                answered = tokio::time::timeout(PATIENCE, answer(&mut io, &self.0, &mut info)) => answered,
                () = worker.lifecycle.closing() => Ok(Ok(())),
            };
            if !matches!(answered, Ok(Ok(()))) {
                io.abort();
            }
            drop(guards);
            info.timing.end = Some(info.elapsed());
            Some(Box::new(info))
        })
    }
}

async fn answer(io: &mut Io, response: &Bytes, info: &mut StreamInfo) -> std::io::Result<()> {
    io.write_all(response).await?;
    info.bytes_sent = response.len() as u64;
    io.shutdown().await?;
    loop {
        let there = io.fill(1, CHUNK).await?.len();
        if there == 0 {
            return Ok(());
        }
        io.take_ahead(there);
    }
}
