//! What internal hops cost a bulk tunnel: CPU-seconds per GiB of the relaying thread, from TCP to TCP with 0, 1 and 3 of
//! them between, in turns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use adit_internal::{Limits, pair};
use adit_io::{Address, ConnInfo, Io, RelayOptions, Side, Stream, relay};
use rustix::time::{ClockId, clock_gettime};

const GIB: f64 = (1_u64 << 30) as f64;
const TOTAL: u64 = 4 << 30;
const HOPS: [usize; 3] = [0, 1, 3];

fn main() {
    let mut results = HOPS.map(|_| Vec::new());
    for _ in 0..5 {
        for (hops, results) in HOPS.into_iter().zip(&mut results) {
            results.push(bulk(hops));
        }
    }
    let mut base = 0.0;
    for (hops, results) in HOPS.into_iter().zip(&mut results) {
        results.sort_by(f64::total_cmp);
        let median = results[results.len() / 2];
        if hops == 0 {
            base = median;
        }
        println!("{hops} hops: {median:.3} CPU-s/GiB ({:.2} of none)", median / base);
    }
}

fn bulk(hops: usize) -> f64 {
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let back = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to_front, to_back) = (front.local_addr().unwrap(), back.local_addr().unwrap());
    let writer = std::thread::spawn(move || {
        let mut socket = TcpStream::connect(to_front).unwrap();
        let buffer = vec![0; 256 << 10];
        for _ in 0..TOTAL / buffer.len() as u64 {
            socket.write_all(&buffer).unwrap();
        }
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    });
    let reader = std::thread::spawn(move || {
        let (mut socket, _) = back.accept().unwrap();
        let mut buffer = vec![0; 256 << 10];
        let mut got = 0;
        loop {
            match socket.read(&mut buffer).unwrap() {
                0 => break got,
                n => got += n as u64,
            }
        }
    });
    let down = front.accept().unwrap().0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = cpu_time();
    runtime.block_on(async {
        let mut relays = tokio::task::JoinSet::new();
        let mut from = side(down);
        for _ in 0..hops {
            let (near, far) = pair(Limits::default());
            relays.spawn(relay(from, internal(near), RelayOptions::default()));
            from = internal(far);
        }
        relays.spawn(relay(from, side(TcpStream::connect(to_back).unwrap()), RelayOptions::default()));
        relays.join_all().await;
    });
    let spent = cpu_time() - start;
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), TOTAL);
    spent / (TOTAL as f64 / GIB)
}

fn side(socket: TcpStream) -> Side {
    socket.set_nonblocking(true).unwrap();
    Io::tcp(tokio::net::TcpStream::from_std(socket).unwrap(), info()).into()
}

fn internal(stream: adit_internal::InternalStream) -> Side {
    Io::new(Stream::Other(Box::new(stream)), info()).into()
}

fn info() -> Arc<ConnInfo> {
    Arc::new(ConnInfo::new(1, Address::internal_client(), Address::internal_client()))
}

fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
