//! Resets: noticed in each state, passed on as resets.

use std::time::Duration;

use adit_io::{Cause, Peer as Who, RelayOptions};
use adit_testkit::{Payload, Peer, within};
use tokio::task::JoinHandle;

use crate::rig::{ALL, Rig, Via};

const QUIET: Duration = Duration::from_millis(150);

/// Brings a tunnel into a state in which the first peer will reset and the second must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    AfterData,
    AfterBulk,
    /// The one who will reset has ended its direction before.
    AfterItsEnd,
    /// The other one has.
    AfterTheOthersEnd,
    /// The other one reads nothing, so the one who resets is not read any more.
    HeldBack,
    /// As above, in bulk.
    HeldBackInBulk,
    /// The one who resets reads nothing.
    Blocked,
}

const STATES: [State; 8] = [
    State::Idle,
    State::AfterData,
    State::AfterBulk,
    State::AfterItsEnd,
    State::AfterTheOthersEnd,
    State::HeldBack,
    State::HeldBackInBulk,
    State::Blocked,
];

async fn bring_to(state: State, it: &mut Peer, other: &mut Peer) {
    match state {
        State::Idle => {}
        State::AfterData => {
            it.send("x").await;
            other.expect("x").await;
        }
        State::AfterBulk => {
            let bytes = Payload::all(1, 4 << 20);
            let ((), got) = tokio::join!(it.send(&bytes), other.receive(bytes.len()));
            assert!(got == bytes);
        }
        State::AfterItsEnd => {
            it.half_close().await;
            other.expect_fin().await;
        }
        State::AfterTheOthersEnd => {
            other.half_close().await;
            it.expect_fin().await;
        }
        State::HeldBack => {
            it.send_until_blocked(&mut Payload::new(1), QUIET).await;
        }
        State::HeldBackInBulk => {
            let bytes = Payload::all(1, 4 << 20);
            let ((), got) = tokio::join!(it.send(&bytes), other.receive(bytes.len()));
            assert!(got == bytes);
            it.send_until_blocked(&mut Payload::new(2), QUIET).await;
        }
        State::Blocked => {
            other.send_until_blocked(&mut Payload::new(1), QUIET).await;
        }
    }
}

async fn check(via: Via, state: State, by: Who, other: &mut Peer, relay: JoinHandle<adit_io::Summary>) {
    let summary = match tokio::time::timeout(adit_testkit::PATIENCE, relay).await {
        Ok(summary) => summary.unwrap(),
        Err(_) => panic!("{via:?} {state:?} {by:?}: not noticed"),
    };
    let Cause::Reset { by: seen, .. } = summary.cause else { panic!("{via:?} {state:?} {by:?}: {summary:?}") };
    assert_eq!(seen, by, "{via:?} {state:?}: {summary:?}");
    if state == State::AfterItsEnd {
        other.expect_broken().await;
    } else {
        other.expect_rst().await;
    }
}

#[tokio::test]
async fn by_the_downstream() {
    for via in ALL {
        for state in STATES {
            let (mut down, mut up, relay) = Rig::small(via, RelayOptions::default()).await.split();
            bring_to(state, &mut down, &mut up).await;
            down.rst();
            check(via, state, Who::Downstream, &mut up, relay).await;
        }
    }
}

#[tokio::test]
async fn by_the_upstream() {
    for via in ALL {
        for state in STATES {
            let (mut down, mut up, relay) = Rig::small(via, RelayOptions::default()).await.split();
            bring_to(state, &mut up, &mut down).await;
            up.rst();
            check(via, state, Who::Upstream, &mut down, relay).await;
        }
    }
}

/// What was received before the reset goes onward before it.
#[tokio::test]
async fn bytes_before_a_reset_are_delivered() {
    for via in ALL {
        for _ in 0..20 {
            let (mut down, mut up, relay) = Rig::new(via, RelayOptions::default()).await.split();
            down.send("last words").await;
            down.rst();
            let (got, end) = up.receive_to_end().await;
            assert_eq!(
                (got.escape_ascii().to_string().as_str(), end),
                ("last words", adit_testkit::End::Rst),
                "{via:?}"
            );
            assert!(matches!(within(relay).await.unwrap().cause, Cause::Reset { by: Who::Downstream, .. }));
        }
    }
}

#[tokio::test]
async fn a_relay_dropped_resets_both() {
    for via in ALL {
        let (mut down, mut up, relay) = Rig::new(via, RelayOptions::default()).await.split();
        down.send("x").await;
        up.expect("x").await;
        relay.abort();
        down.expect_rst().await;
        up.expect_rst().await;
    }
}
