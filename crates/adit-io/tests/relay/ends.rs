//! Ends: each direction on its own, in either order, after every byte.

use adit_io::{Cause, DirectionEnd, LINGER, RelayOptions};
use adit_testkit::{End, Payload};

use crate::rig::{ALL, Rig, Via};

const BIG: usize = 8 << 20;

#[tokio::test]
async fn downstream_ends_first_and_gets_everything() {
    for via in ALL {
        let mut rig = Rig::new(via, RelayOptions::default()).await;
        rig.down.send("question").await;
        rig.down.half_close().await;
        rig.up.expect("question").await;
        rig.up.expect_fin().await;
        let answer = Payload::all(2, BIG);
        let up = &mut rig.up;
        let ((), got) = tokio::join!(
            async {
                up.send(&answer).await;
                up.half_close().await;
            },
            rig.down.check_to_end(2)
        );
        assert_eq!(got, (BIG as u64, End::Fin), "{via:?}");
        let summary = rig.summary().await;
        assert_eq!(summary.cause, Cause::Ended, "{via:?}");
        assert_eq!((summary.down_to_up.bytes, summary.up_to_down.bytes), (8, BIG as u64));
        assert_eq!((summary.down_to_up.end, summary.up_to_down.end), (DirectionEnd::End, DirectionEnd::End));
    }
}

#[tokio::test]
async fn upstream_ends_first_and_gets_everything() {
    for via in ALL {
        let mut rig = Rig::new(via, RelayOptions::default()).await;
        rig.up.send("greeting").await;
        rig.up.half_close().await;
        rig.down.expect("greeting").await;
        rig.down.expect_fin().await;
        let upload = Payload::all(3, BIG);
        let down = &mut rig.down;
        let ((), got) = tokio::join!(
            async {
                down.send(&upload).await;
                down.half_close().await;
            },
            rig.up.check_to_end(3)
        );
        assert_eq!(got, (BIG as u64, End::Fin), "{via:?}");
        assert_eq!(rig.summary().await.cause, Cause::Ended);
    }
}

/// The end comes while much of the data is still on its way and the other direction is busy too.
#[tokio::test]
async fn ends_behind_data_in_flight_both_ways() {
    for via in ALL {
        let rig = Rig::small(via, RelayOptions::default()).await;
        let (mut down, mut up, relay) = rig.split();
        let (down_payload, up_payload) = (Payload::all(4, BIG / 4), Payload::all(5, BIG / 4));
        let (mut down_reader, mut down_writer) = down.split();
        let (mut up_reader, mut up_writer) = up.split();
        let ((), (), from_up, from_down) = tokio::join!(
            async {
                down_writer.send(&down_payload).await;
                down_writer.half_close().await;
            },
            async {
                up_writer.send(&up_payload).await;
                up_writer.half_close().await;
            },
            down_reader.check_to_end(5),
            up_reader.check_to_end(4),
        );
        assert_eq!(from_up, ((BIG / 4) as u64, End::Fin), "{via:?}");
        assert_eq!(from_down, ((BIG / 4) as u64, End::Fin), "{via:?}");
        assert_eq!(relay.await.unwrap().cause, Cause::Ended);
    }
}

#[tokio::test]
async fn an_end_without_a_byte() {
    for via in ALL {
        let mut rig = Rig::new(via, RelayOptions::default()).await;
        rig.down.half_close().await;
        rig.up.expect_fin().await;
        rig.up.half_close().await;
        rig.down.expect_fin().await;
        let summary = rig.summary().await;
        assert_eq!((summary.cause, summary.down_to_up.bytes), (Cause::Ended, 0), "{via:?}");
    }
}

/// A full close is an end; what it does not read any more comes back as a reset.
#[tokio::test]
async fn a_close_is_an_end_and_then_a_reset_for_who_goes_on_sending() {
    for via in ALL {
        let rig = Rig::new(via, RelayOptions::default()).await;
        let (mut down, mut up, relay) = rig.split();
        down.send("bye").await;
        drop(down);
        up.expect("bye").await;
        up.expect_fin().await;
        up.send("are you there?").await;
        let summary = adit_testkit::within(relay).await.unwrap();
        assert!(matches!(summary.cause, Cause::Reset { by: adit_io::Peer::Downstream, .. }), "{via:?} {summary:?}");
        assert_eq!(summary.down_to_up.end, DirectionEnd::End);
        up.expect_broken().await;
    }
}

#[tokio::test]
async fn one_byte_at_a_time() {
    for via in ALL {
        let mut rig = Rig::new(via, RelayOptions::default()).await;
        let mut payload = Payload::new(6);
        for _ in 0..500 {
            let byte = payload.take(1);
            rig.down.send(&byte).await;
            rig.up.expect(&byte).await;
            rig.up.send(&byte).await;
            rig.down.expect(&byte).await;
        }
        let (down, up, relay) = rig.split();
        drop((down, up));
        let summary = relay.await.unwrap();
        assert_eq!((summary.down_to_up.bytes, summary.up_to_down.bytes), (500, 500), "{via:?}");
    }
}

/// A server answers early and closes while the client still sends: its answer is not lost to the reset that follows.
#[tokio::test]
async fn an_early_answer_survives_the_reset_behind_it() {
    for via in ALL {
        let mut turns = 0;
        while !early_answer(via).await {
            turns += 1;
            assert!(turns < 20, "{via:?}: never within the time that a reader has");
        }
    }
}

/// Whether it took less than the [`LINGER`] that a reader has once the reset is seen: a machine that stood still for so long
/// shows nothing.
async fn early_answer(via: Via) -> bool {
    const LEN: usize = 200 << 10;
    let (mut down, mut up, relay) = Rig::small(via, RelayOptions::default()).await.split();
    down.send("request").await;
    up.expect("request").await;
    up.send(Payload::all(5, LEN)).await;
    // Everything is on our side of the wire before the close.
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let closed = std::time::Instant::now();
    drop(up);
    for _ in 0..5 {
        // It may be gone already, see above.
        let _ = down.stream().try_write(b"more of the request");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let seen = down.check_to_end(5).await;
    if closed.elapsed() >= LINGER {
        return false;
    }
    assert_eq!(seen, (LEN as u64, End::Fin), "{via:?}");
    drop(down);
    let summary = adit_testkit::within(relay).await.unwrap();
    assert_eq!(summary.up_to_down.end, DirectionEnd::End, "{via:?}");
    true
}
