//! Idle timeout, maximum duration, orderly close.

use std::time::{Duration, Instant};

use adit_io::{Cause, DirectionEnd, RelayOptions, TimeoutAction};
use adit_testkit::Payload;
use tokio::task::JoinSet;

use crate::rig::{ALL, Rig, Via};

/// An idle timeout that does not fire in the middle of what a test does when the machine stands still for a second.
const IDLE: Duration = Duration::from_millis(1500);

/// Runs a test that waits for [`IDLE`] with every kind of stream at once.
async fn with_all<T: Future<Output = ()> + Send + 'static>(test: impl Fn(Via) -> T) {
    ALL.into_iter().map(test).collect::<JoinSet<()>>().join_all().await;
}

fn idle(after: Duration) -> RelayOptions {
    RelayOptions { idle_timeout: Some(after), ..RelayOptions::default() }
}

#[tokio::test]
async fn idle_from_the_start_ends_both() {
    for via in ALL {
        let start = Instant::now();
        let mut rig = Rig::new(via, idle(Duration::from_millis(100))).await;
        rig.down.expect_fin().await;
        rig.up.expect_fin().await;
        let summary = rig.summary().await;
        assert_eq!(summary.cause, Cause::IdleTimeout, "{via:?}");
        assert_eq!((summary.down_to_up.end, summary.up_to_down.end), (DirectionEnd::Closed, DirectionEnd::Closed));
        assert!(start.elapsed() >= Duration::from_millis(100));
    }
}

#[tokio::test]
async fn a_byte_either_way_defers_it() {
    with_all(|via| async move {
        let mut rig = Rig::new(via, idle(IDLE)).await;
        let start = Instant::now();
        let mut last = start;
        for turn in 0..6 {
            tokio::time::sleep(IDLE / 4).await;
            last = Instant::now();
            if turn % 2 == 0 {
                rig.down.send("x").await;
                rig.up.expect("x").await;
            } else {
                rig.up.send("x").await;
                rig.down.expect("x").await;
            }
        }
        rig.down.expect_fin().await;
        assert!(last.elapsed() >= IDLE * 9 / 10, "{via:?} {:?}", last.elapsed());
        assert!(start.elapsed() >= IDLE * 9 / 4, "{via:?}");
        assert_eq!(rig.summary().await.cause, Cause::IdleTimeout);
    })
    .await;
}

#[tokio::test]
async fn a_half_closed_tunnel_whose_other_end_never_comes() {
    with_all(|via| async move {
        let mut rig = Rig::new(via, idle(IDLE)).await;
        rig.down.send("x").await;
        rig.down.half_close().await;
        rig.up.expect("x").await;
        rig.up.expect_fin().await;
        rig.down.expect_fin().await;
        let summary = rig.summary().await;
        assert_eq!(summary.cause, Cause::IdleTimeout, "{via:?}");
        assert_eq!((summary.down_to_up.end, summary.up_to_down.end), (DirectionEnd::End, DirectionEnd::Closed));
    })
    .await;
}

#[tokio::test]
async fn idle_resets_where_asked() {
    for via in ALL {
        let options = RelayOptions { timeout_action: TimeoutAction::Reset, ..idle(Duration::from_millis(50)) };
        let mut rig = Rig::new(via, options).await;
        rig.down.expect_rst().await;
        rig.up.expect_rst().await;
        assert_eq!(rig.summary().await.cause, Cause::IdleTimeout, "{via:?}");
    }
}

/// Bytes that nobody takes are no activity, and an end in front of them would be a lie.
#[tokio::test]
async fn idle_with_a_stopped_reader_resets() {
    with_all(|via| async move {
        let (mut down, mut up, relay) = Rig::small(via, idle(IDLE)).await.split();
        down.send_until_blocked(&mut Payload::new(1), Duration::from_millis(100)).await;
        let summary = adit_testkit::within(relay).await.unwrap();
        assert_eq!(summary.cause, Cause::IdleTimeout, "{via:?}");
        assert_eq!(summary.down_to_up.end, DirectionEnd::Cut);
        up.expect_rst().await;
    })
    .await;
}

#[tokio::test]
async fn the_longest_time_ends_a_busy_tunnel() {
    for via in ALL {
        let options = RelayOptions { max_duration: Some(Duration::from_millis(120)), ..idle(Duration::from_secs(60)) };
        let start = Instant::now();
        let mut rig = Rig::new(via, options).await;
        let mut seen = false;
        while start.elapsed() < adit_testkit::PATIENCE {
            rig.down.send("x").await;
            match rig.up.receive_some().await {
                Ok(bytes) if !bytes.is_empty() => tokio::time::sleep(Duration::from_millis(2)).await,
                _ => {
                    seen = true;
                    break;
                }
            }
        }
        assert!(seen && start.elapsed() >= Duration::from_millis(110), "{via:?} {:?}", start.elapsed());
        assert_eq!(rig.summary().await.cause, Cause::MaxDuration);
    }
}

#[tokio::test]
async fn an_orderly_close_delivers_what_is_held_and_ends_both() {
    for via in ALL {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let closing = Box::pin(async move {
            let _ = told.await;
        });
        let options = RelayOptions { closing: Some(closing), ..RelayOptions::default() };
        let mut rig = Rig::new(via, options).await;
        rig.down.send("x").await;
        rig.up.expect("x").await;
        rig.down.expect_silence(Duration::from_millis(20)).await;
        tell.send(()).unwrap();
        rig.down.expect_fin().await;
        rig.up.expect_fin().await;
        assert_eq!(rig.summary().await.cause, Cause::Closing, "{via:?}");
    }
}

#[tokio::test]
async fn an_orderly_close_does_not_wait_for_a_stopped_reader() {
    for via in ALL {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let closing = Box::pin(async move {
            let _ = told.await;
        });
        let options = RelayOptions { closing: Some(closing), ..RelayOptions::default() };
        let (mut down, mut up, relay) = Rig::small(via, options).await.split();
        down.send_until_blocked(&mut Payload::new(1), Duration::from_millis(100)).await;
        tell.send(()).unwrap();
        let start = Instant::now();
        let summary = adit_testkit::within(relay).await.unwrap();
        assert!(start.elapsed() < 10 * adit_io::LINGER, "{via:?}");
        assert_eq!(summary.cause, Cause::Closing);
        // A reset where bytes that we held did not go; an end where the kernel took them all.
        let (got, end) = up.receive_to_end().await;
        assert!(got.len() as u64 <= summary.down_to_up.bytes);
        assert_eq!(
            end == adit_testkit::End::Fin,
            summary.down_to_up.end == DirectionEnd::Closed,
            "{via:?} {summary:?}"
        );
    }
}
