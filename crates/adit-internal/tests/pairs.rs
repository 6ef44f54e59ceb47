//! Pairs and the registry as their users see them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use adit_internal::{ConnectError, InternalListeners, InternalStream, Limits, Passed, Refused, pair};
use adit_io::{
    Address, ByteSource, Cause, ConnInfo, FilterState, FilterValue, Io, Peer as Who, Refusal, RelayOptions, Sharing,
    Side, Stream, Transport, relay,
};
use adit_testkit::{Check, End, Payload, Peer, tcp_pair, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn io(stream: InternalStream) -> Io {
    let address = Address::internal_client();
    Io::new(Stream::Other(Box::new(stream)), Arc::new(ConnInfo::new(1, address.clone(), address)))
}

async fn tcp_side(socket: tokio::net::TcpStream) -> Side {
    let address: Address = socket.local_addr().unwrap().into();
    Io::tcp(socket, Arc::new(ConnInfo::new(1, address.clone(), address))).into()
}

#[tokio::test]
async fn each_direction_has_its_own_end() {
    let (mut near, mut far) = pair(Limits::default());
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    got.clear();
    near.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "answer");
}

#[tokio::test]
async fn a_drop_is_a_reset_behind_the_bytes() {
    let (mut near, mut far) = pair(Limits::default());
    near.write_all(b"cut").await.unwrap();
    drop(near);
    let mut got = [0; 3];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"cut");
    assert_eq!(far.read(&mut got).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (mut near, mut far) = pair(Limits::default());
    near.abort();
    assert_eq!(far.read(&mut got).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    within(std::future::poll_fn(|cx| far.poll_closed(cx))).await;
}

#[tokio::test]
async fn a_writer_waits_between_the_marks() {
    for kb in [1, 5, 128, 1024, 8192] {
        let (mut near, mut far) = pair(Limits::from_kb(kb).unwrap());
        let high = kb as usize * 1024;
        let mut taken = 0;
        let chunk = vec![0; 16 << 10];
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(5), near.write(&chunk)).await {
            taken += written.unwrap();
        }
        assert_eq!(taken, high);
        let mut buffer = vec![0; high / 2 - 1];
        far.read_exact(&mut buffer).await.unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(5), near.write(&chunk)).await.is_err(),
            "above the low mark"
        );
        far.read_exact(&mut [0; 1]).await.unwrap();
        assert!(within(near.write(&chunk)).await.unwrap() > 0);
    }
    assert_eq!((Limits::from_kb(0), Limits::from_kb(8193)), (None, None));
}

#[tokio::test]
async fn listener_filters_look_without_taking() {
    let (mut near, far) = pair(Limits::default());
    let mut far = io(far);
    let writer = tokio::spawn(async move {
        near.write_all(b"GET ").await.unwrap();
        tokio::task::yield_now().await;
        near.write_all(b"/ HTTP/1.1\r\n").await.unwrap();
        near.shutdown().await.unwrap();
        near
    });
    assert_eq!(far.fill(1, 3).await.unwrap(), b"GET");
    assert_eq!(far.fill(8, 64).await.unwrap(), b"GET / HTTP/1.1\r\n");
    assert_eq!(far.fill(60, 64).await.unwrap().len(), 16, "the end comes before 60");
    assert_eq!(&far.take_ahead(4)[..], b"GET ");
    let mut rest = String::new();
    far.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "/ HTTP/1.1\r\n");
    drop(writer.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn much_between_threads() {
    const LEN: u64 = 48 << 20;
    for kb in [1, 64, 1024] {
        let len = if kb == 1 { LEN / 16 } else { LEN };
        let (near, far) = pair(Limits::from_kb(kb).unwrap());
        let ends = [(near, 1), (far, 2)].map(|(end, seed)| {
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(end);
                let writing = async {
                    let mut payload = Payload::new(seed);
                    let mut size = 1;
                    while payload.position() < len {
                        size = (size * 7 + 3) % 200_000 + 1;
                        let bytes = payload.take(size.min((len - payload.position()) as usize));
                        writer.write_all(&bytes).await.unwrap();
                    }
                    writer.shutdown().await.unwrap();
                };
                let reading = async {
                    let mut check = Check::new(3 - seed);
                    let mut buffer = vec![0; 100_000];
                    loop {
                        match reader.read(&mut buffer).await.unwrap() {
                            0 => break check.position(),
                            n => check.eat(&buffer[..n]),
                        }
                    }
                };
                tokio::join!(writing, reading).1
            })
        });
        for end in ends {
            assert_eq!(tokio::time::timeout(Duration::from_secs(60), end).await.unwrap().unwrap(), len);
        }
    }
}

fn registry() -> InternalListeners {
    InternalListeners::new(Limits::default(), 3)
}

fn no_endpoint() -> Arc<str> {
    "".into()
}

#[tokio::test]
async fn connects_by_name_and_passes_state() {
    let listeners = registry();
    let mut acceptor = listeners.listen("encap", 4).unwrap();
    assert!(listeners.listen("encap", 4).is_err());
    let mut state = FilterState::default();
    state.set("key", FilterValue::Text("value".into()), Sharing::Once);
    let passed = Passed { hops: 0, state: state.shared_with_upstream(), ..Passed::default() };
    let mut near = listeners.connect("encap", &"e1".into(), passed).unwrap();
    let mut far = acceptor.accept().await;
    assert_eq!(far.info.local.to_string(), "envoy://encap/e1");
    assert_eq!(far.info.remote.to_string(), "envoy://internal_client_address/");
    assert_eq!(near.info.local.to_string(), "envoy://internal_client_address/");
    assert_eq!(near.info.remote.to_string(), "envoy://encap/e1");
    assert_eq!((near.info.internal_hops, far.info.internal_hops), (1, 1));
    assert_ne!(near.info.id, far.info.id);
    assert_eq!(far.state.text("key"), Some("value"));
    assert!(near.state.is_empty());
    near.write_all(b"hi").await.unwrap();
    far.read_exact(&mut [0; 2]).await.unwrap();
    let refusal = Refusal { status: Some(403), flags: 1, details: "far_proxy".into(), looped: false };
    far.info.refusal.as_ref().unwrap().set(refusal.clone());
    far.abort();
    assert_eq!(near.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(near.info.refusal.as_ref().unwrap().get(), Some(refusal));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let listeners = registry();
    let connect = |name: &str, hops| listeners.connect(name, &no_endpoint(), Passed { hops, ..Passed::default() });
    assert_eq!(connect("missing", 0).err(), Some(ConnectError::NotFound("missing".into())));
    let binding = listeners.bind("full", |_io| Err(Refused)).unwrap();
    assert_eq!(connect("full", 0).err(), Some(ConnectError::Refused("full".into())));
    assert_eq!(connect("full", 3).err(), Some(ConnectError::TooManyHops { listener: "full".into(), hops: 3 }));
    assert!(listeners.contains("full"));
    drop(binding);
    assert_eq!(connect("full", 0).err(), Some(ConnectError::NotFound("full".into())));
    // A backlog is bounded, and what waits in it is reset when the listener goes.
    let acceptor = listeners.listen("slow", 1).unwrap();
    let mut first = connect("slow", 0).unwrap();
    assert!(connect("slow", 0).is_err());
    drop(acceptor);
    assert_eq!(first.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(listeners.listen("slow", 1).is_ok());
}

/// A listener whose terminal connects to itself: it ends at the hop limit, at once.
#[tokio::test]
async fn a_loop_ends() {
    let listeners = registry();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (registry, failures) = (listeners.clone(), seen.clone());
    let binding = listeners.bind("self", move |io: Io| {
        let passed = Passed { hops: io.info.internal_hops, ..Passed::default() };
        match registry.connect("self", &no_endpoint(), passed) {
            Ok(_) => {}
            Err(error) => failures.lock().unwrap().push(error),
        }
        Ok(())
    });
    let _io = listeners.connect("self", &no_endpoint(), Passed::default()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [ConnectError::TooManyHops { listener: "self".into(), hops: 3 }]);
    drop(binding);
}

/// TCP, three internal hops, TCP: both ends, resets with their direction, and a stopped reader felt at the far end.
#[tokio::test]
async fn through_three_hops() {
    const LEN: usize = 8 << 20;
    let (mut down, mut up, mut relays) = hops(3).await;
    let payload = Payload::all(1, LEN);
    let ((), got) = tokio::join!(
        async {
            down.send(&payload).await;
            down.half_close().await;
        },
        up.check_to_end(1)
    );
    assert_eq!(got, (LEN as u64, End::Fin));
    let ((), got) = tokio::join!(
        async {
            up.send(&payload).await;
            up.half_close().await;
        },
        down.check_to_end(1)
    );
    assert_eq!(got, (LEN as u64, End::Fin));
    while let Some(summary) = within(relays.join_next()).await {
        assert_eq!(summary.unwrap().cause, Cause::Ended);
    }
    let (down, mut up, mut relays) = hops(3).await;
    down.rst();
    up.expect_rst().await;
    while let Some(summary) = within(relays.join_next()).await {
        assert!(matches!(summary.unwrap().cause, Cause::Reset { by: Who::Downstream, .. }));
    }
    let (mut down, mut up, mut relays) = hops(3).await;
    down.send_until_blocked(&mut Payload::new(1), Duration::from_millis(150)).await;
    // The one that is not read any more goes.
    down.rst();
    up.expect_rst().await;
    while let Some(summary) = within(relays.join_next()).await {
        assert!(matches!(summary.unwrap().cause, Cause::Reset { by: Who::Downstream, .. }));
    }
}

async fn hops(count: usize) -> (Peer, Peer, tokio::task::JoinSet<adit_io::Summary>) {
    let (down, down_inner) = tcp_pair().await;
    let (up_inner, up) = tcp_pair().await;
    let mut relays = tokio::task::JoinSet::new();
    let mut from = tcp_side(down_inner).await;
    for _ in 0..count {
        let (near, far) = pair(Limits::from_kb(64).unwrap());
        relays.spawn(relay(from, io(near).into(), RelayOptions::default()));
        from = io(far).into();
    }
    relays.spawn(relay(from, tcp_side(up_inner).await, RelayOptions::default()));
    (Peer::new(down), Peer::new(up), relays)
}

/// What was put in as a pipe comes out by any way of reading.
#[tokio::test]
async fn spliced_bytes_are_read_into_memory_where_nobody_takes_them_as_they_are() {
    const SIZE: usize = 8 << 20;
    let (near, far) = pair(Limits::default());
    let (mut client, server) = tcp_pair().await;
    let (mut source, _sink) = far.split();
    // From here on the writer may send pipes.
    assert!(source.take_spliced().is_none());
    let relaying = relay(tcp_side(server).await, io(near).into(), RelayOptions::default());
    let writing = async {
        let data: Vec<u8> = (0..SIZE).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
        client.write_all(&data).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let reading = async {
        let (mut at, mut spliced) = (0, 0);
        loop {
            // Every other time as it comes, and else as a chunk.
            let taken = if at % 2 == 0 { source.take_spliced() } else { None };
            let chunk = match taken {
                Some(taken) => {
                    spliced += taken.len();
                    taken.into_bytes().unwrap()
                }
                None => match std::future::poll_fn(|cx| source.poll_chunk(cx, 1 << 16)).await {
                    Some(chunk) => chunk.unwrap(),
                    None => break,
                },
            };
            assert!(!chunk.is_empty());
            for (i, byte) in chunk.iter().enumerate() {
                let i = at + i;
                assert_eq!(*byte, (i ^ (i >> 8) ^ (i >> 16)) as u8, "byte {i}");
            }
            at += chunk.len();
        }
        assert_eq!(at, SIZE);
        spliced
    };
    let both = async {
        let (spliced, ()) = tokio::join!(reading, writing);
        spliced
    };
    tokio::select! {
        _ = relaying => panic!("the relay is over first"),
        _ = within(both) => {}
    }
}

#[tokio::test]
async fn what_was_read_ahead_comes_first_and_the_end_behind_it() {
    let (mut near, far) = pair(Limits::default());
    near.write_all(b"first second").await.unwrap();
    near.shutdown().await.unwrap();
    let mut far = io(far);
    assert_eq!(far.fill(100, 100).await.unwrap(), b"first second");
    assert_eq!(far.take_ahead(6), "first ");
    let (mut source, _sink) = far.into_halves();
    let next = std::future::poll_fn(|cx| source.poll_chunk(cx, 100)).await;
    assert_eq!(next.unwrap().unwrap(), "second");
    assert!(std::future::poll_fn(|cx| source.poll_chunk(cx, 100)).await.is_none());
}
