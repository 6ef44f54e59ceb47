//! What an idle session costs. Alone in its process, as it looks at the process as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use adit_tls::ConnectOptions;
use rig::{Ca, Rig, common, downstream, exercise, upstream};

#[tokio::test]
async fn an_idle_session_holds_no_buffer() {
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
    let connector = rig.connector(&upstream(common(&[], None)));
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let mut kept = Vec::new();
    for _ in 0..50 {
        kept.push(exercise(&connector, &acceptor, ConnectOptions::default()).await);
    }
    let before = resident();
    for _ in 0..200 {
        kept.push(exercise(&connector, &acceptor, ConnectOptions::default()).await);
    }
    let each = resident().saturating_sub(before) / 400;
    println!("{each} octets for each end");
    assert!(each < 12 << 10, "{each}");
}
