//! Volume: integrity, bounded memory, changes of lane, fairness.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use adit_io::{Cause, RelayOptions};
use adit_testkit::{End, Payload};

use crate::rig::{ALL, Counts, Rig, Via};

/// 64 MiB each way at once, written in pieces of random sizes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_both_ways() {
    const LEN: u64 = 64 << 20;
    for via in ALL {
        let (mut down, mut up, relay) = Rig::new(via, RelayOptions::default()).await.split();
        let (mut down_reader, mut down_writer) = down.split();
        let (mut up_reader, mut up_writer) = up.split();
        let ((), (), from_up, from_down) = tokio::join!(
            down_writer.send_in_pieces(7, LEN),
            up_writer.send_in_pieces(8, LEN),
            down_reader.check_to_end(8),
            up_reader.check_to_end(7),
        );
        assert_eq!((from_up, from_down), ((LEN, End::Fin), (LEN, End::Fin)), "{via:?}");
        let summary = relay.await.unwrap();
        assert_eq!((summary.down_to_up.bytes, summary.up_to_down.bytes), (LEN, LEN));
        assert_eq!(summary.cause, Cause::Ended);
    }
}

/// Bulk, then single bytes, then bulk: the lane changes under the stream.
#[tokio::test]
async fn quiet_between_bulk() {
    for via in ALL {
        let mut rig = Rig::new(via, RelayOptions::default()).await;
        for _ in 0..4 {
            rig.warm_up(3 << 20).await;
            for _ in 0..20 {
                rig.warm_up(1).await;
                rig.warm_up(100).await;
            }
        }
    }
}

/// What the proxy takes for a reader that has stopped: at most the limit and what the kernel's buffers hold.
#[tokio::test]
async fn a_stopped_reader_costs_a_bounded_amount() {
    // Four kernel buffers of 64 KiB, which the kernel doubles, and its own slack.
    const KERNEL: u64 = 4 * 2 * 64 * 1024 * 2;
    for via in ALL {
        for limit in [4 << 10, 64 << 10, 1 << 20] {
            let options = RelayOptions { buffer_limit: limit, ..RelayOptions::default() };
            let mut rig = Rig::small(via, options).await;
            rig.warm_up(2 << 20).await;
            let mut payload = Payload::new(9);
            let taken = rig.down.send_until_blocked(&mut payload, Duration::from_millis(200)).await;
            assert!(taken <= KERNEL + limit as u64, "{via:?} with {limit}: took {taken}");
            // And not a byte of it is lost.
            let (mut down, mut up, _relay) = rig.split();
            let reader = tokio::spawn(async move { up.check_to_end(9).await });
            down.half_close().await;
            assert_eq!(reader.await.unwrap(), (taken, End::Fin), "{via:?}");
        }
    }
}

#[tokio::test]
async fn an_observer_sees_bytes_and_pauses_as_they_happen() {
    for via in ALL {
        let counts = Arc::new(Counts::default());
        let options = RelayOptions { observer: Some(counts.clone()), ..RelayOptions::default() };
        let mut rig = Rig::small(via, options).await;
        rig.down.send("four").await;
        rig.up.expect("four").await;
        adit_testkit::eventually("4 bytes", || counts.bytes[0].load(Ordering::Relaxed) == 4).await;
        assert_eq!(counts.paused[0].load(Ordering::Relaxed), 0);
        let taken = rig.down.send_until_blocked(&mut Payload::new(1), Duration::from_millis(100)).await;
        let paused = counts.paused[0].load(Ordering::Relaxed);
        assert!(paused >= 1, "{via:?}");
        assert_eq!(counts.resumed[0].load(Ordering::Relaxed), paused - 1, "{via:?}");
        rig.up.receive(taken as usize).await;
        adit_testkit::eventually("resumed", || {
            counts.resumed[0].load(Ordering::Relaxed) == counts.paused[0].load(Ordering::Relaxed)
        })
        .await;
        adit_testkit::eventually("all bytes", || counts.bytes[0].load(Ordering::Relaxed) == 4 + taken).await;
        assert_eq!(counts.bytes[1].load(Ordering::Relaxed), 0);
    }
}

/// Eight bulk tunnels and a small one on one thread, whose peers run on another: the small one is not starved.
#[test]
fn bulk_does_not_delay_small_messages() {
    let peers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let (hand_over, handed) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..8 {
                hand_over.send(Rig::new(Via::Plain, RelayOptions::default()).await).unwrap();
            }
            hand_over.send(Rig::new(Via::Plain, RelayOptions::default()).await).unwrap();
            let _ = receiver.await;
        });
    });
    let mut rigs: Vec<_> = (0..9).map(|_| handed.recv().unwrap()).collect();
    let small = rigs.pop().unwrap();
    let worst = peers.block_on(async {
        for rig in rigs {
            let (down, up, _relay) = rig.split();
            // Sockets belong to the other runtime's reactor until they are registered anew.
            let (mut down, mut up) = (down.rehome(), up.rehome());
            tokio::spawn(async move {
                let mut payload = Payload::new(1);
                let chunk = payload.take(256 << 10);
                loop {
                    down.send(&chunk).await;
                }
            });
            tokio::spawn(async move { while up.receive_some().await.is_ok_and(|bytes| !bytes.is_empty()) {} });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (down, up, _relay) = small.split();
        let (mut down, mut up) = (down.rehome(), up.rehome());
        let mut times = Vec::new();
        for _ in 0..100 {
            let start = Instant::now();
            down.send("ping").await;
            up.expect("ping").await;
            times.push(start.elapsed());
        }
        times.sort();
        times[times.len() / 2]
    });
    drop(peers);
    drop(sender);
    worker.join().unwrap();
    // Each bulk tunnel's turn is under a millisecond even unoptimised; a machine under load gets a wide margin. What
    // starves waits for ever.
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}
