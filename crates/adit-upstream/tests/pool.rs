//! Pools on real sockets: reuse, limits, queues, timers, cancelled waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use adit_filter::upstream::FailureKind;
use support::{
    Wish, acquire, cluster, exchange, exchange_on, expect_accepted, get, ok, origin, pending, refusing, soon, until,
    world,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_connection_is_used_again() {
    let origin = origin(ok).await;
    let world = world(&cluster("a", &[origin.port], ""));
    let a = world.cluster("a");
    for _ in 0..5 {
        let upstream = soon(acquire(&a)).await.ok().unwrap();
        let (head, body) = soon(exchange(upstream, "/")).await;
        assert_eq!((head.status.as_u16(), body.as_slice()), (200, &b"0"[..]));
    }
    expect_accepted(&origin.accepted, 1).await;
    world.expect_counter("cluster.a.upstream_cx_total", 1).await;
    world.expect_counter("cluster.a.upstream_cx_http1_total", 1).await;
    world.expect_counter("cluster.a.upstream_rq_total", 5).await;
    world.expect_counter("cluster.a.upstream_rq_pending_total", 1).await;
    world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
    world.expect_gauge("cluster.a.upstream_rq_pending_active", 0).await;
    world.expect_gauge("cluster.a.upstream_cx_active", 1).await;
}

#[tokio::test]
async fn tcp_connects_and_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(&cluster("a", &[listener.local_addr().unwrap().port()], ""));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    let mut upstream = soon(a.tcp(&need)).await.ok().unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    upstream.io.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    assert_eq!(upstream.io.info.local.socket().unwrap(), peer.peer_addr().unwrap());
    world.expect_gauge("cluster.a.upstream_cx_active", 1).await;
    world.expect_gauge("cluster.a.upstream_rq_pending_active", 0).await;
    drop(upstream);
    world.expect_gauge("cluster.a.upstream_cx_active", 0).await;
    world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
}

#[tokio::test]
async fn refused_is_a_remote_failure() {
    let (port, _held) = refusing();
    let world = world(&cluster("a", &[port], ""));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    for failure in [soon(a.tcp(&need)).await.err().unwrap(), soon(a.http(&need)).await.err().unwrap()] {
        assert_eq!(failure.kind, FailureKind::Remote);
        assert_eq!(failure.reason, "delayed connect error: Connection refused");
        assert!(failure.host.is_some());
    }
    world.expect_counter("cluster.a.upstream_cx_connect_fail", 2).await;
    until("all given back", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
    world.expect_gauge("cluster.a.upstream_rq_pending_active", 0).await;
}

#[tokio::test]
async fn a_closed_idle_connection_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = world(&cluster("a", &[port], ""));
    let a = world.cluster("a");
    for _ in 1..=3 {
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = socket.read(&mut buffer).await.unwrap();
            socket.write_all(ok("x").as_bytes()).await.unwrap();
            socket
        };
        let client = async { exchange(acquire(&a).await.ok().unwrap(), "/").await };
        let (socket, (head, _)) = soon(async { tokio::join!(server, client) }).await;
        assert_eq!(head.status.as_u16(), 200);
        world.expect_gauge("cluster.a.upstream_cx_active", 1).await;
        drop(socket);
        until("the close is noticed", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
    }
    world.expect_counter("cluster.a.upstream_cx_total", 3).await;
    world.expect_counter("cluster.a.upstream_cx_connect_fail", 0).await;
}

/// How a connection that carried nothing when it ended is counted.
#[tokio::test]
async fn an_idle_connection_that_breaks_ends_no_request() {
    for (broken, reset) in [(true, false), (false, true), (false, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = world(&cluster("a", &[listener.local_addr().unwrap().port()], ""));
        let a = world.cluster("a");
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await.unwrap();
            socket.write_all(ok("x").as_bytes()).await.unwrap();
            socket
        };
        let client = async { exchange(acquire(&a).await.ok().unwrap(), "/").await };
        let (mut socket, _) = soon(async { tokio::join!(server, client) }).await;
        if broken {
            socket.write_all(ok("y").as_bytes()).await.unwrap();
            let _ = socket.read(&mut [0; 1]).await;
        }
        if reset {
            socket.set_zero_linger().unwrap();
        }
        drop(socket);
        world.expect_gauge("cluster.a.upstream_cx_active", 0).await;
        world.expect_counter("cluster.a.upstream_cx_destroy_remote", u64::from(!broken)).await;
        world.expect_counter("cluster.a.upstream_cx_destroy_local", u64::from(broken)).await;
        world.expect_counter("cluster.a.upstream_cx_protocol_error", u64::from(broken)).await;
        assert_eq!(world.counter("cluster.a.upstream_cx_destroy_with_active_rq"), 0);
    }
}

/// The peer's end comes with its acceptance: whether it is seen then or behind the request is chance, and must not matter.
#[tokio::test]
async fn a_peer_that_closes_at_once_ends_a_stream_and_is_no_failure_to_connect() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let world = world(&cluster("a", &[listener.local_addr().unwrap().port()], ""));
    std::thread::spawn(move || listener.incoming().for_each(drop));
    // Between two looks at the sockets.
    tokio::spawn(async {
        loop {
            std::thread::sleep(Duration::from_millis(5));
            tokio::task::yield_now().await;
        }
    });
    for count in 1..=5 {
        let mut upstream = soon(acquire(&world.cluster("a"))).await.ok().expect("it is connected");
        let mut opened = upstream.lease.open(&get("/"), true).expect("it is tried");
        assert!(soon(std::future::poll_fn(|cx| opened.response.poll_head(cx))).await.is_err());
        drop((opened, upstream));
        world.expect_counter("cluster.a.upstream_cx_total", count).await;
    }
    world.expect_gauge("cluster.a.upstream_cx_active", 0).await;
    world.expect_counter("cluster.a.upstream_cx_protocol_error", 0).await;
}

#[tokio::test]
async fn max_connections_makes_the_second_wait_and_max_pending_refuses_the_third() {
    let origin = origin(ok).await;
    let limits = "circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 1 }] }";
    let world = world(&cluster("a", &[origin.port], limits));
    let a = world.cluster("a");
    let first = soon(acquire(&a)).await.ok().unwrap();
    let wish = Wish::default();
    let need = wish.need();
    let mut second = a.http(&need);
    assert!(pending(&mut second).await);
    let third = soon(acquire(&a)).await.err().unwrap();
    assert_eq!(third.kind, FailureKind::Overflow);
    world.expect_counter("cluster.a.upstream_rq_pending_overflow", 1).await;
    world.expect_gauge("cluster.a.circuit_breakers.default.cx_open", 1).await;
    world.expect_gauge("cluster.a.circuit_breakers.default.rq_pending_open", 1).await;
    soon(exchange(first, "/")).await;
    let second = soon(second).await.ok().unwrap();
    soon(exchange(second, "/")).await;
    expect_accepted(&origin.accepted, 1).await;
    world.expect_gauge("cluster.a.circuit_breakers.default.rq_pending_open", 0).await;
}

/// Its own stream takes a connection of HTTP/1 back when it ends; whoever waits, or comes meanwhile, is not kept waiting by a
/// stream that has its answer and is slow to pass it on.
#[tokio::test]
async fn a_stream_that_has_its_answer_keeps_nobody_from_its_connection() {
    let origin = origin(ok).await;
    let limits = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }";
    let world = world(&cluster("a", &[origin.port], limits));
    let a = world.cluster("a");
    let wish = Wish { head: Some(support::get("/")), ..Wish::default() };
    let need = wish.need();
    let mut first = soon(acquire(&a)).await.ok().unwrap();
    let mut second = a.http(&need);
    assert!(pending(&mut second).await);
    // The first is read to its end and goes on holding what it was given.
    soon(exchange_on(&mut first, "/")).await;
    let mut second = soon(second).await.ok().unwrap();
    drop(first);
    // Nobody waits while the second is read; the third comes while it holds on.
    soon(exchange_on(&mut second, "/")).await;
    let third = soon(acquire(&a)).await.ok().unwrap();
    drop(second);
    soon(exchange(third, "/")).await;
    soon(exchange(acquire(&a).await.ok().unwrap(), "/")).await;
    expect_accepted(&origin.accepted, 1).await;
    world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
}

/// What a connection comes to while its stream holds it is found when the stream lets go.
#[tokio::test]
async fn a_connection_that_is_over_while_a_stream_holds_it_is_not_used_again() {
    for (last, whole) in [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok", false),
    ] {
        let origin = origin(move |number| if number == 0 { last.to_owned() } else { ok("second") }).await;
        let world = world(&cluster("a", &[origin.port], ""));
        let a = world.cluster("a");
        let mut first = soon(acquire(&a)).await.ok().unwrap();
        if whole {
            assert_eq!(soon(exchange_on(&mut first, "/")).await.1, b"ok");
        } else {
            // Left in the middle of the answer.
            let stream = first.lease.open(&support::get("/"), true).unwrap();
            let (mut send, mut response) = (stream.send, stream.response);
            soon(std::future::poll_fn(|cx| send.poll_flush(cx))).await.unwrap();
            soon(std::future::poll_fn(|cx| response.poll_head(cx))).await.unwrap();
        }
        drop(first);
        let second = soon(acquire(&a)).await.ok().unwrap();
        assert_eq!(soon(exchange(second, "/")).await.1, b"second", "{last}");
        expect_accepted(&origin.accepted, 2).await;
        world.expect_gauge("cluster.a.upstream_cx_active", 1).await;
        world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
    }
}

#[tokio::test]
async fn who_may_not_wait_fails_where_max_connections_allows_no_more() {
    for limits in ["thresholds", "per_host_thresholds"] {
        let origin = origin(ok).await;
        let limits = format!("circuit_breakers: {{ {limits}: [{{ max_connections: 1 }}] }}");
        let world = world(&cluster("a", &[origin.port], &limits));
        let a = world.cluster("a");
        let wish = Wish { at_once: true, ..Wish::default() };
        let need = wish.need();
        // The second while the first connects, the third while it is in use.
        let (first, second) = soon(async { tokio::join!(a.http(&need), a.http(&need)) }).await;
        let first = first.ok().unwrap();
        assert_eq!(second.err().unwrap().kind, FailureKind::Overflow);
        world.expect_counter("cluster.a.upstream_cx_overflow", 1).await;
        assert_eq!(soon(a.http(&need)).await.err().unwrap().kind, FailureKind::Overflow);
        world.expect_gauge("cluster.a.upstream_rq_pending_active", 0).await;
        // A connection that is free serves.
        soon(exchange(first, "/")).await;
        soon(exchange(soon(a.http(&need)).await.ok().unwrap(), "/")).await;
        expect_accepted(&origin.accepted, 1).await;
    }
}

#[tokio::test]
async fn tcp_waits_for_a_place_under_max_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = "circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 1 }] }";
    let world = world(&cluster("a", &[listener.local_addr().unwrap().port()], limits));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    assert!(!a.tcp_overflows(need.priority));
    let first = soon(a.tcp(&need)).await.ok().unwrap();
    assert!(a.tcp_overflows(need.priority));
    world.expect_counter("cluster.a.upstream_cx_overflow", 1).await;
    let mut second = a.tcp(&need);
    assert!(pending(&mut second).await);
    assert_eq!(soon(a.tcp(&need)).await.err().unwrap().kind, FailureKind::Overflow);
    // One that gives up leaves its place in the queue.
    drop(second);
    world.expect_gauge("cluster.a.upstream_rq_pending_active", 0).await;
    let mut second = a.tcp(&need);
    assert!(pending(&mut second).await);
    drop(first);
    let second = soon(second).await.ok().unwrap();
    world.expect_gauge("cluster.a.upstream_cx_active", 1).await;
    drop(second);
    world.expect_gauge("cluster.a.upstream_cx_active", 0).await;
    world.expect_gauge("cluster.a.circuit_breakers.default.cx_open", 0).await;
}

#[tokio::test]
async fn each_host_may_have_a_limit_of_its_own() {
    let (one, other) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let ports = [one.local_addr().unwrap().port(), other.local_addr().unwrap().port()];
    let limits = "circuit_breakers: { per_host_thresholds: [{ max_connections: 1 }, { priority: HIGH }] }";
    let world = world(&cluster("a", &ports, limits));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    let mut held = vec![soon(a.tcp(&need)).await.ok().unwrap(), soon(a.tcp(&need)).await.ok().unwrap()];
    let taken: std::collections::BTreeSet<u16> =
        held.iter().map(|upstream| upstream.host.info().address.socket().unwrap().port()).collect();
    assert_eq!(taken, ports.into());
    // The third goes to a host that has what it may have.
    let mut third = a.tcp(&need);
    assert!(pending(&mut third).await);
    world.expect_counter("cluster.a.upstream_cx_overflow", 1).await;
    world.expect_gauge("cluster.a.circuit_breakers.default.cx_open", 0).await;
    held.clear();
    let third = soon(third).await.ok().unwrap();
    drop(third);
    world.expect_gauge("cluster.a.upstream_cx_active", 0).await;
    // HTTP connections count like others.
    let origin = origin(ok).await;
    let world = self::world(&cluster("a", &[origin.port], limits));
    let a = world.cluster("a");
    let first = soon(acquire(&a)).await.ok().unwrap();
    let mut second = a.http(&need);
    assert!(pending(&mut second).await);
    soon(exchange(first, "/")).await;
    soon(exchange(soon(second).await.ok().unwrap(), "/")).await;
    expect_accepted(&origin.accepted, 1).await;
}

#[tokio::test]
async fn sessions_over_udp_count_among_a_hosts_connections() {
    let limits = "circuit_breakers: { per_host_thresholds: [{ max_connections: 1 }] }";
    let world = world(&cluster("a", &[9], limits));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    let first = a.udp(&need).ok().unwrap();
    assert_eq!(a.udp(&need).err().unwrap().kind, FailureKind::Overflow);
    world.expect_counter("cluster.a.upstream_cx_overflow", 1).await;
    drop(first);
    assert!(a.udp(&need).is_ok());
    world.expect_gauge("cluster.a.upstream_cx_active", 0).await;
}

#[tokio::test]
async fn a_cancelled_wait_leaves_nothing_behind() {
    let origin = origin(ok).await;
    let limits = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }";
    let world = world(&cluster("a", &[origin.port], limits));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    let first = soon(acquire(&a)).await.ok().unwrap();
    // Cancelled in the queue.
    for _ in 0..100 {
        let mut waiting = a.http(&need);
        assert!(pending(&mut waiting).await);
    }
    world.expect_gauge("cluster.a.upstream_rq_pending_active", 0).await;
    world.expect_counter("cluster.a.upstream_rq_cancelled", 100).await;
    // Cancelled with a connection granted and not taken.
    let mut waiting = a.http(&need);
    assert!(pending(&mut waiting).await);
    drop(first);
    drop(waiting);
    let again = soon(acquire(&a)).await.ok().unwrap();
    soon(exchange(again, "/")).await;
    expect_accepted(&origin.accepted, 1).await;
    world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
}

#[tokio::test]
async fn max_requests_per_connection_retires_it() {
    let origin = origin(ok).await;
    let more = "max_requests_per_connection: 2";
    let world = world(&cluster("a", &[origin.port], more));
    let a = world.cluster("a");
    let mut seen = Vec::new();
    for _ in 0..5 {
        let upstream = soon(acquire(&a)).await.ok().unwrap();
        seen.push(soon(exchange(upstream, "/")).await.1);
    }
    assert_eq!(seen, [b"0", b"0", b"1", b"1", b"2"]);
    world.expect_counter("cluster.a.upstream_cx_max_requests", 2).await;
    // Its last stream was not cut.
    world.expect_counter("cluster.a.upstream_cx_destroy_local", 2).await;
    world.expect_counter("cluster.a.upstream_cx_destroy_with_active_rq", 0).await;
    until("two are closed", || world.gauge("cluster.a.upstream_cx_active") == 1).await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let origin = origin(ok).await;
    let more = "common_http_protocol_options: { idle_timeout: 0.1s }";
    let world = world(&cluster("a", &[origin.port], more));
    let a = world.cluster("a");
    soon(exchange(acquire(&a).await.ok().unwrap(), "/")).await;
    world.expect_counter("cluster.a.upstream_cx_total", 1).await;
    until("it idled", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
    world.expect_counter("cluster.a.upstream_cx_idle_timeout", 1).await;
    // One in use does not idle.
    let busy = soon(acquire(&a)).await.ok().unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    world.expect_gauge("cluster.a.upstream_cx_active", 1).await;
    soon(exchange(busy, "/")).await;
}

#[tokio::test]
async fn max_requests_refuses() {
    let origin = origin(ok).await;
    let limits = "circuit_breakers: { thresholds: [{ max_requests: 1 }] }";
    let world = world(&cluster("a", &[origin.port], limits));
    let a = world.cluster("a");
    let first = soon(acquire(&a)).await.ok().unwrap();
    assert_eq!(soon(acquire(&a)).await.err().unwrap().kind, FailureKind::Overflow);
    world.expect_gauge("cluster.a.circuit_breakers.default.rq_open", 1).await;
    world.expect_counter("cluster.a.upstream_rq_active_overflow", 1).await;
    world.expect_counter("cluster.a.upstream_rq_pending_overflow", 0).await;
    soon(exchange(first, "/")).await;
    assert!(soon(acquire(&a)).await.is_ok());
}

#[tokio::test]
async fn a_host_that_swallows_is_a_timeout() {
    // A full backlog drops SYNs.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    for _ in 0..4 {
        if let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await
        {
            fill.push(stream);
        }
    }
    let world = world(&cluster("a", &[address.port()], "").replace("20s", "0.1s"));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    for failure in [soon(a.tcp(&need)).await.err().unwrap(), soon(a.http(&need)).await.err().unwrap()] {
        assert_eq!(failure.kind, FailureKind::Timeout);
    }
    world.expect_counter("cluster.a.upstream_cx_connect_timeout", 2).await;
    world.expect_counter("cluster.a.upstream_cx_connect_fail", 2).await;
    world.expect_counter("cluster.a.upstream_cx_destroy_local", 2).await;
    assert!(pending(&mut a.tcp(&need)).await);
    world.expect_counter("cluster.a.upstream_rq_cancelled", 1).await;
    world.expect_counter("cluster.a.upstream_cx_destroy_local", 3).await;
    world.expect_counter("cluster.a.upstream_cx_destroy", 3).await;
}

#[tokio::test]
async fn preconnect_makes_a_spare_connection() {
    let origin = origin(ok).await;
    let more = "preconnect_policy: { per_upstream_preconnect_ratio: 2 }";
    let world = world(&cluster("a", &[origin.port], more));
    let a = world.cluster("a");
    let held = soon(acquire(&a)).await.ok().unwrap();
    until("a spare one", || origin.accepted.load(SeqCst) == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    expect_accepted(&origin.accepted, 2).await;
    drop(held);
}

/// Thousands of streams and connections given up at every stage leave nothing counted, queued or open.
#[tokio::test]
async fn a_storm_of_cancellations_leaves_nothing_behind() {
    let origin = origin(ok).await;
    let limits = "circuit_breakers: { thresholds: [{ max_connections: 7, max_pending_requests: 100, max_requests: 50 }] }\ncommon_http_protocol_options: { idle_timeout: 0.1s, max_requests_per_connection: 9 }";
    let world = world(&cluster("a", &[origin.port], limits));
    let a = world.cluster("a");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..5000_u32 {
        let a = a.clone();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_micros(u64::from(fastrand::u32(..500_000)))).await;
            let work = async {
                let wish = Wish::default();
                let need = wish.need();
                if number % 3 == 0 {
                    let upstream = a.tcp(&need).await.ok()?;
                    tokio::time::sleep(Duration::from_micros(u64::from(fastrand::u32(..3000)))).await;
                    drop(upstream);
                } else {
                    let mut upstream = a.http(&need).await.ok()?;
                    match number % 5 {
                        // Given up before it was opened.
                        0 => drop(upstream),
                        1 => drop((upstream.lease.open(&support::get("/"), true), upstream)),
                        2 => {
                            let opened = upstream.lease.open(&support::get("/"), true);
                            drop((upstream, opened));
                        }
                        _ => drop(exchange(upstream, "/").await),
                    }
                }
                Some(())
            };
            let patience = Duration::from_micros(u64::from(fastrand::u32(..20_000)));
            let _ = tokio::time::timeout(patience, work).await;
        });
    }
    while let Some(done) = soon(tasks.join_next()).await {
        done.unwrap();
    }
    until("nothing is left", || {
        ["upstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active"]
            .iter()
            .all(|name| world.gauge(&format!("cluster.a.{name}")) == 0)
    })
    .await;
    for name in ["cx_open", "rq_open", "rq_pending_open"] {
        world.expect_gauge(&format!("cluster.a.circuit_breakers.default.{name}"), 0).await;
    }
    let view = &world.manager.describe()[0].hosts[0];
    assert_eq!((view.cx_active, view.rq_active, view.rq_pending_active), (0, 0, 0));
    assert!(soon(acquire(&a)).await.is_ok());
}
