//! The cells of tunnels.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::load::{account, histogram, latencies, runtime};
use crate::origin::{self, BLOCK, MESSAGE, Shared};
use crate::proc::{self, Moment};
use crate::spec::{Cell, LoadResult, LoadSpec};
use crate::tunnel::{Dialer, Tunnel, h2_send};

/// Tunnels of the echo cells.
const ECHO_TUNNELS: usize = 64;
/// Messages per second of the paced cell, all tunnels together.
const PACED: usize = 10_000;
/// Loops that open tunnels.
const OPENERS: usize = 32;
/// Idle tunnels opened before the first look at memory, so that what exists once is not counted.
const FIRST: usize = 10;

/// What the tasks of a client share.
struct Client {
    dialer: Dialer,
    shared: Arc<Shared>,
    histogram: Mutex<Histogram<u64>>,
    error: Mutex<Option<String>>,
}

impl Client {
    fn record(&self, since: Instant) {
        self.shared.ops.fetch_add(1, Ordering::Relaxed);
        if self.shared.recording.load(Ordering::Relaxed)
            && let Ok(mut histogram) = self.histogram.lock()
        {
            let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            histogram.saturating_record(nanos);
        }
    }

    fn failed(&self, error: &anyhow::Error) {
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut first) = self.error.lock() {
            first.get_or_insert_with(|| format!("{error:#}"));
        }
    }
}

/// Runs a cell.
pub fn run(spec: &LoadSpec, shared: &Arc<Shared>) -> Result<LoadResult> {
    let spec = spec.clone();
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || {
            let runtime = runtime()?;
            let done = runtime.block_on(cell(&spec, shared));
            runtime.shutdown_background();
            done
        })?
        .join()
        .map_err(|_| anyhow::anyhow!("the client's thread died"))?
}

async fn cell(spec: &LoadSpec, shared: Arc<Shared>) -> Result<LoadResult> {
    let tunnels = match spec.cell {
        Cell::BulkUp16 | Cell::BulkDown16 => 16,
        Cell::Echo | Cell::EchoPaced => ECHO_TUNNELS,
        Cell::NewClient | Cell::NewServer => OPENERS,
        Cell::Idle | Cell::EndAll | Cell::EchoMany => spec.idle,
        _ => 1,
    };
    let dialer = Dialer::new(spec.transport, spec.connect, tunnels).await?;
    let client = Arc::new(Client { dialer, shared, histogram: Mutex::new(histogram()?), error: Mutex::new(None) });
    let mut result = match spec.cell {
        Cell::Idle => idle(spec, &client).await?,
        Cell::EndAll => end_all(spec, &client).await?,
        _ => {
            for number in 0..tunnels {
                start(spec.cell, (number, tunnels), &client);
            }
            window(spec, &client).await?
        }
    };
    if let Ok(mut error) = client.error.lock() {
        result.error = error.take();
    }
    if result.ops == 0 && result.bytes == 0 {
        bail!("nothing came through: {}", result.error.unwrap_or_else(|| "no error either".to_owned()));
    }
    Ok(result)
}

/// Sleeps through the warm-up and the window, and takes the counts at both ends of the latter.
async fn window(spec: &LoadSpec, client: &Client) -> Result<LoadResult> {
    tokio::time::sleep(Duration::from_secs_f64(spec.warm)).await;
    let counts = || (client.shared.ops.load(Ordering::Relaxed), client.shared.bytes.load(Ordering::Relaxed));
    client.shared.recording.store(true, Ordering::Relaxed);
    let from = Moment::now(&spec.pids, spec.core);
    let before = counts();
    tokio::time::sleep(Duration::from_secs_f64(spec.secs)).await;
    let after = counts();
    let to = Moment::now(&spec.pids, spec.core);
    client.shared.recording.store(false, Ordering::Relaxed);
    let mut result = LoadResult { ops: after.0 - before.0, bytes: after.1 - before.1, ..LoadResult::default() };
    account(&mut result, &from.until(&to));
    if let Ok(histogram) = client.histogram.lock() {
        latencies(&mut result, &histogram);
    }
    Ok(result)
}

/// Starts one of a cell's tasks, the first of two numbers of the second; it runs until the process ends.
fn start(cell: Cell, place: (usize, usize), client: &Arc<Client>) {
    let client = Arc::clone(client);
    tokio::spawn(async move {
        loop {
            let done = match cell {
                Cell::BulkUp1 | Cell::BulkUp16 => bulk_up(&client).await,
                Cell::BulkDown1 | Cell::BulkDown16 => bulk_down(&client).await,
                Cell::Echo => echo(&client, None).await,
                Cell::EchoPaced | Cell::EchoMany => echo(&client, Some(place)).await,
                _ => new(cell, &client).await,
            };
            if let Err(error) = done {
                client.failed(&error);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
}

async fn bulk_up(client: &Client) -> Result<()> {
    match client.dialer.open().await? {
        Tunnel::Tcp(mut stream) => origin::source(&mut stream).await,
        Tunnel::H2(mut send, _recv) => {
            let block = Bytes::from(vec![b'x'; BLOCK]);
            loop {
                h2_send(&mut send, block.clone()).await?;
            }
        }
    }
}

async fn bulk_down(client: &Client) -> Result<()> {
    match client.dialer.open().await? {
        Tunnel::Tcp(stream) => origin::sink(&stream, &client.shared).await?,
        Tunnel::H2(_send, mut recv) => {
            while let Some(data) = recv.data().await {
                let data = data?;
                recv.flow_control().release_capacity(data.len())?;
                client.shared.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
        }
    }
    bail!("the source has ended")
}

async fn echo(client: &Client, paced: Option<(usize, usize)>) -> Result<()> {
    let mut tunnel = client.dialer.open().await?;
    let message = Bytes::from_static(&[b'x'; MESSAGE]);
    let mut buffer = [0_u8; MESSAGE];
    let (number, tunnels) = paced.unwrap_or((0, 1));
    let period = Duration::from_secs_f64(tunnels as f64 / PACED as f64);
    let mut due = tokio::time::Instant::now() + period.mul_f64(number as f64 / tunnels as f64);
    loop {
        let mut since = Instant::now();
        if paced.is_some() {
            // A late timer is not the proxy's fault; a message that was due while the one before it was under way
            // counts from when it was due.
            since = due.into_std();
            if tokio::time::Instant::now() < due {
                tokio::time::sleep_until(due).await;
                since = Instant::now();
            }
            due += period;
        }
        tunnel.send(message.clone()).await?;
        tunnel.receive(&mut buffer).await?;
        client.record(since);
    }
}

async fn new(cell: Cell, client: &Client) -> Result<()> {
    let since = Instant::now();
    let mut tunnel = client.dialer.open().await?;
    let mut buffer = [0_u8; MESSAGE];
    tunnel.send(Bytes::from_static(&[b'x'; MESSAGE])).await?;
    tunnel.receive(&mut buffer).await?;
    if cell == Cell::NewClient {
        tunnel.end().await?;
        tunnel.ended().await?;
    } else {
        tunnel.ended().await?;
        // A stream may be gone with the origin's end: then there is no way back to end.
        let _ = tunnel.end().await;
    }
    client.record(since);
    Ok(())
}

/// Opens tunnels, each of which has carried one message, so that it surely exists at both ends.
async fn open_many(client: &Arc<Client>, count: usize, into: &mut Vec<Tunnel>) -> Result<()> {
    while into.len() < count {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..(count - into.len()).min(64) {
            let client = Arc::clone(client);
            tasks.spawn(async move {
                let mut tunnel = client.dialer.open().await?;
                let mut buffer = [0_u8; MESSAGE];
                tunnel.send(Bytes::from_static(&[b'x'; MESSAGE])).await?;
                tunnel.receive(&mut buffer).await?;
                anyhow::Ok(tunnel)
            });
        }
        while let Some(tunnel) = tasks.join_next().await {
            into.push(tunnel?.with_context(|| format!("after {} idle tunnels", into.len()))?);
        }
    }
    Ok(())
}

async fn idle(spec: &LoadSpec, client: &Arc<Client>) -> Result<LoadResult> {
    let mut tunnels = Vec::with_capacity(spec.idle);
    open_many(client, FIRST, &mut tunnels).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let rss = || spec.pids.iter().map(|pid| proc::rss(*pid)).collect::<Vec<_>>();
    let before = rss();
    let from = Moment::now(&spec.pids, spec.core);
    open_many(client, spec.idle, &mut tunnels).await?;
    let to = Moment::now(&spec.pids, spec.core);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let opened = (tunnels.len() - FIRST) as f64;
    let each: Vec<f64> = rss().iter().zip(&before).map(|(after, before)| (after - before) / opened).collect();
    let mut result = LoadResult {
        ops: tunnels.len() as u64,
        kib_per_tunnel: each.iter().sum(),
        kib_each: each,
        ..LoadResult::default()
    };
    account(&mut result, &from.until(&to));
    Ok(result)
}

async fn end_all(spec: &LoadSpec, client: &Arc<Client>) -> Result<LoadResult> {
    let mut tunnels = Vec::with_capacity(spec.idle);
    open_many(client, spec.idle, &mut tunnels).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let from = Moment::now(&spec.pids, spec.core);
    let since = Instant::now();
    client.shared.recording.store(true, Ordering::Relaxed);
    client.shared.end_all.notify_waiters();
    let mut tasks = tokio::task::JoinSet::new();
    for mut tunnel in tunnels {
        let client = Arc::clone(client);
        tasks.spawn(async move {
            tunnel.ended().await?;
            client.record(since);
            let _ = tunnel.end().await;
            anyhow::Ok(())
        });
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.context("not all tunnels have ended")??;
    let to = Moment::now(&spec.pids, spec.core);
    let mut result = LoadResult { ops: spec.idle as u64, ..LoadResult::default() };
    account(&mut result, &from.until(&to));
    if let Ok(histogram) = client.histogram.lock() {
        latencies(&mut result, &histogram);
    }
    Ok(result)
}
