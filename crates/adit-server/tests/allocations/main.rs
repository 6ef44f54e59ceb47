//! What a request and a tunnel ask of the allocator, held by a test so that it cannot creep up.
//!
//! The whole proxy runs in this process with one worker, over loopback sockets. Only the worker's thread is counted; client
//! and origin are threads of their own. A bound is what there is today and 5 to 10 % more. Whoever makes it less lowers it.
//!
//! To see what allocates:
//! `ADIT_SHOW_ALLOCATIONS=1 cargo test -p adit-server --test allocations -- --nocapture 2>&1 | less`
//! writes the size of each allocation of one more request or tunnel of each kind, and where in these crates it is made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod counting;
mod rig;

use std::io::{Read, Write};
use std::net::TcpStream;

use counting::Measure;
use rig::{Adit, CONNECT, GET, WEBSOCKET};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Of each kind, before anything is counted: tables and pools have their size.
const WARM_UP: usize = 220;
/// Of each kind, counted.
const COUNT: usize = 200;
/// Bytes for each: a histogram takes 720 for each decade in which it has seen a value, and then keeps them.
const GROWTH: f64 = 64.0;

/// What one of a kind may cost.
struct Bounds {
    name: &'static str,
    /// Allocations from the client's connection to the first byte echoed.
    open: f64,
    /// Allocations of an echo of 64 bytes in a tunnel that stands.
    echo: f64,
    /// Bytes asked for and not given back while it is idle.
    live: f64,
    /// Allocations of its end: two more if the other direction is still on when the end is seen.
    end: f64,
}

#[test]
fn requests_and_tunnels_allocate_no_more_than_they_did() {
    let adit = Adit::start();
    let mut report = Report::default();
    requests(&adit, &mut report);
    let websocket = Bounds { name: "WebSocket h1 -> h1", open: 53.5, echo: 0.0, live: 1690.0, end: 5.0 };
    tunnels(&adit.websocket, WEBSOCKET, &websocket, &mut report);
    let connect = Bounds { name: "CONNECT over h1, terminated", open: 40.5, echo: 0.0, live: 1630.0, end: 5.0 };
    tunnels(&adit.connect, CONNECT, &connect, &mut report);
    let tcp = Bounds { name: "TCP", open: 19.0, echo: 0.0, live: 1470.0, end: 6.0 };
    tunnels(&adit.tcp, "", &tcp, &mut report);
    let hops = Bounds { name: "TCP over two hops of h2", open: 66.0, echo: 6.4, live: 2800.0, end: 9.0 };
    tunnels(&adit.hops, "", &hops, &mut report);
    report.judge();
}

/// GETs one after the other over one connection of the client and one to the origin.
fn requests(adit: &Adit, report: &mut Report) {
    let mut client = adit.requests.connect();
    for _ in 0..WARM_UP {
        exchange(&mut client, GET);
    }
    let measure = Measure::start();
    for _ in 0..COUNT {
        exchange(&mut client, GET);
    }
    let (allocations, live) = measure.stop();
    report.line("GET h1 -> h1", "allocations", per_each(allocations), 18.3);
    report.line("GET h1 -> h1", "bytes left behind", per_each(live), GROWTH);
    counting::shown("GET h1 -> h1", || exchange(&mut client, GET));
}

/// Tunnels opened one after the other, all of them open at the end, then ended by the client one after the other.
fn tunnels(listener: &rig::Target, head: &str, bounds: &Bounds, report: &mut Report) {
    let open = || {
        let mut client = listener.connect();
        if !head.is_empty() {
            exchange(&mut client, head);
        }
        echo(&mut client);
        client
    };
    let warm: Vec<TcpStream> = (0..WARM_UP).map(|_| open()).collect();
    warm.into_iter().for_each(end);
    let opening = Measure::start();
    let mut all: Vec<TcpStream> = (0..COUNT).map(|_| open()).collect();
    let (allocations, held) = opening.stop();
    report.line(bounds.name, "allocations to open", per_each(allocations), bounds.open);
    report.line(bounds.name, "bytes while idle", per_each(held), bounds.live);
    let echoing = Measure::start();
    all.iter_mut().for_each(echo);
    let (allocations, more) = echoing.stop();
    report.line(bounds.name, "allocations of an echo", per_each(allocations), bounds.echo);
    report.line(bounds.name, "bytes left by an echo", per_each(more), 0.0);
    let ending = Measure::start();
    all.into_iter().for_each(end);
    let (allocations, returned) = ending.stop();
    report.line(bounds.name, "allocations to end", per_each(allocations), bounds.end);
    report.line(bounds.name, "bytes left behind", per_each(held + more + returned), GROWTH);
    let mut one = None;
    counting::shown(&format!("{}, opening", bounds.name), || one = Some(open()));
    counting::shown(&format!("{}, ending", bounds.name), || one.take().into_iter().for_each(end));
}

fn per_each(sum: i64) -> f64 {
    sum as f64 / COUNT as f64
}

/// Sends a request and reads its whole response.
fn exchange(client: &mut TcpStream, head: &str) {
    client.write_all(head.as_bytes()).unwrap();
    let head = rig::read_head(client).expect("a response");
    assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 101"), "{head}");
    if head.contains("content-length: 13") {
        client.read_exact(&mut [0; 13]).unwrap();
    }
}

/// 64 bytes there and back.
fn echo(client: &mut TcpStream) {
    let mut back = [0; 64];
    client.write_all(&[b'x'; 64]).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, [b'x'; 64]);
}

/// Says its end and waits for the origin's.
fn end(mut client: TcpStream) {
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

/// What was measured, all of it before anything is judged.
#[derive(Default)]
struct Report {
    text: String,
    exceeded: bool,
}

impl Report {
    fn line(&mut self, name: &str, what: &str, each: f64, bound: f64) {
        let over = each > bound;
        self.exceeded |= over;
        let mark = if over { "  <- more than it was" } else { "" };
        self.text.push_str(&format!("{name:28} {what:24} {each:8.2}, at most {bound}{mark}\n"));
    }

    fn judge(self) {
        eprint!("{}", self.text);
        assert!(!self.exceeded, "of each, with {COUNT} of them:\n{}", self.text);
    }
}
