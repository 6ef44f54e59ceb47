//! What an idle tunnel costs: one number, held by a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use adit_filter::NetworkTerminal;
use adit_io::{ConnInfo, Io};
use common::{Attempt, World, message};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A connected pair of plain sockets, which cost this process nothing but descriptors.
fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn io(socket: TcpStream, remote: std::net::SocketAddr) -> Io {
    socket.set_nonblocking(true).unwrap();
    let local = socket.local_addr().unwrap();
    let info = ConnInfo::new(ConnInfo::next_id(), local.into(), remote.into());
    Io::tcp(tokio::net::TcpStream::from_std(socket).unwrap(), Arc::new(info))
}

#[test]
fn an_idle_tunnel_is_small() {
    adit_runtime::raise_fd_limit().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(&message());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peers = Vec::new();
        let mut grow = async |count: usize| {
            for _ in 0..count {
                let (client, downstream) = pair(&listener);
                let (upstream, server) = pair(&listener);
                // The address of the fake's host.
                world.then(Attempt::Io(io(upstream, "192.0.2.9:99".parse().unwrap())));
                // A task without a result, as a listener's.
                let serving = world.proxy.clone().serve(world.connection(io(downstream, client.local_addr().unwrap())));
                tokio::spawn(async move { drop(serving.await) });
                peers.push((client, server));
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        };
        // What is made once, or grows in steps.
        grow(500).await;
        let before = resident();
        const COUNT: usize = 1500;
        grow(COUNT).await;
        let each = (resident() - before) / COUNT;
        assert!(each <= 2400, "{each} bytes for each idle tunnel");
        eprintln!("{each} bytes for each idle tunnel");
    });
}
