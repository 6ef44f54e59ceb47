//! The whole transition table, against a golden file, and properties that no order of inputs may break.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use adit_http::ResponseHead;
use adit_upgrade::{Action, Actions, Answer, Ask, Direction, Exchange, Input, Plan, State, Withheld, judge};
use http::{StatusCode, Version};
use proptest::prelude::*;

fn answer(ask: Ask, status: u16) -> Answer {
    let head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    judge(ask, &head, Version::HTTP_11, Some(Version::HTTP_2))
}

fn plan(terminate: bool) -> Plan {
    Plan { terminate, response_timeout: Some(Duration::from_secs(15)), per_try_timeout: Some(Duration::from_secs(5)) }
}

fn inputs() -> Vec<(&'static str, Input)> {
    vec![
        ("Request", Input::Request(Ask::Upgrade)),
        ("Routed", Input::Routed(plan(false))),
        ("Routed(terminate)", Input::Routed(plan(true))),
        ("Refuse", Input::Refuse),
        ("Connected", Input::Connected),
        ("Answer(103)", Input::Answer(answer(Ask::Upgrade, 103))),
        ("Answer(101)", Input::Answer(answer(Ask::Upgrade, 101))),
        ("Answer(403)", Input::Answer(answer(Ask::Upgrade, 403))),
        ("Answer(200)", Input::Answer(answer(Ask::Upgrade, 200))),
        ("AttemptFailed(again)", Input::AttemptFailed { again: Some(Duration::from_millis(25)) }),
        ("AttemptFailed", Input::AttemptFailed { again: None }),
        ("Tick(now)", Input::Tick),
        ("Ended(Down)", Input::Ended(Direction::Down)),
        ("Ended(Up)", Input::Ended(Direction::Up)),
        ("Broken", Input::Broken),
        ("Replied", Input::Replied),
        ("ClientGone", Input::ClientGone),
    ]
}

fn drive(path: &[Input], start: Instant) -> Exchange {
    let mut exchange = Exchange::new();
    for input in path {
        exchange.handle(start, *input, &mut Actions::default());
    }
    exchange
}

fn paths() -> Vec<Vec<Input>> {
    let request = Input::Request(Ask::Upgrade);
    let up = [request, Input::Routed(plan(false)), Input::Connected];
    let relaying: Vec<Input> = up.iter().copied().chain([Input::Answer(answer(Ask::Upgrade, 101))]).collect();
    vec![
        vec![],
        vec![request],
        vec![request, Input::Routed(plan(false))],
        vec![request, Input::Routed(plan(true))],
        vec![request, Input::Routed(plan(false)), Input::AttemptFailed { again: Some(Duration::from_millis(25)) }],
        up.to_vec(),
        relaying.clone(),
        relaying.iter().copied().chain([Input::Ended(Direction::Down)]).collect(),
        relaying.iter().copied().chain([Input::Ended(Direction::Up)]).collect(),
        vec![request, Input::Refuse],
        vec![Input::ClientGone],
    ]
}

fn table() -> String {
    let start = Instant::now();
    let mut out = String::new();
    for path in paths() {
        let from = drive(&path, start);
        let wait = from.deadline().map(|at| at - start);
        let terminating = path.contains(&Input::Routed(plan(true)));
        writeln!(out, "{:?}{} wakes after {wait:?}", from.state(), if terminating { " terminating" } else { "" })
            .unwrap();
        let later = [5, 15].map(|s| ("Tick", Duration::from_secs(s), Input::Tick));
        let at_once = inputs().into_iter().map(|(name, input)| (name, Duration::ZERO, input));
        for (name, after, input) in at_once.chain(later) {
            let mut exchange = drive(&path, start);
            let mut actions = Actions::default();
            exchange.handle(start + after, input, &mut actions);
            let todo: Vec<_> = std::iter::from_fn(|| actions.pop()).collect();
            if exchange.state() != from.state() || !todo.is_empty() {
                let name = if after.is_zero() { name.to_owned() } else { format!("{name}({}s)", after.as_secs()) };
                writeln!(out, "  {name:<21} -> {:?} {todo:?}", exchange.state()).unwrap();
            }
        }
    }
    out
}

#[test]
fn the_transition_table_is_the_golden_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transitions.txt");
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}

#[test]
fn answers_mean_what_the_rfcs_say() {
    let rows = [
        // ask, status, upstream, downstream, verdict
        (Ask::Upgrade, 101, Version::HTTP_11, Some(Version::HTTP_11), "Accepted"),
        (Ask::Upgrade, 101, Version::HTTP_2, Some(Version::HTTP_11), "Accepted"),
        (Ask::Upgrade, 200, Version::HTTP_11, Some(Version::HTTP_11), "Refused"),
        (Ask::Upgrade, 200, Version::HTTP_11, Some(Version::HTTP_2), "Invalid"),
        (Ask::Upgrade, 204, Version::HTTP_11, Some(Version::HTTP_3), "Invalid"),
        (Ask::Upgrade, 201, Version::HTTP_2, Some(Version::HTTP_2), "Refused"),
        (Ask::Upgrade, 426, Version::HTTP_11, Some(Version::HTTP_2), "Refused"),
        (Ask::Upgrade, 302, Version::HTTP_11, Some(Version::HTTP_2), "Refused"),
        (Ask::Upgrade, 100, Version::HTTP_11, Some(Version::HTTP_11), "Interim"),
        (Ask::Connect, 200, Version::HTTP_11, None, "Accepted"),
        (Ask::Connect, 204, Version::HTTP_2, None, "Accepted"),
        (Ask::Connect, 101, Version::HTTP_11, None, "Invalid"),
        (Ask::Connect, 407, Version::HTTP_11, None, "Refused"),
        (Ask::Post, 202, Version::HTTP_11, None, "Accepted"),
        (Ask::Post, 101, Version::HTTP_11, None, "Invalid"),
        (Ask::Post, 302, Version::HTTP_11, None, "Refused"),
    ];
    for (ask, status, upstream, downstream, verdict) in rows {
        let head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
        let found = judge(ask, &head, upstream, downstream).verdict();
        assert_eq!(format!("{found:?}"), verdict, "{ask:?} {status} {upstream:?} {downstream:?}");
    }
}

proptest! {
    /// Whatever comes in whatever order: no panic, payload is let through at most once and only after an acceptance, a
    /// finished exchange asks for nothing, and it finishes once.
    #[test]
    fn no_order_of_inputs_breaks_it(steps in prop::collection::vec((0..17usize, 0..20_000u64), 0..60)) {
        let known = inputs();
        let mut now = Instant::now();
        let mut exchange = Exchange::new();
        let mut withheld = Some(Withheld::new("sink"));
        let (mut accepted, mut finished, mut refused) = (false, 0, 0);
        for (index, wait) in steps {
            now += Duration::from_millis(wait);
            let (name, input) = known[index];
            let before = exchange.state();
            let mut actions = Actions::default();
            exchange.handle(now, input, &mut actions);
            let mut count = 0;
            while let Some(action) = actions.pop() {
                count += 1;
                prop_assert!(before != State::Done, "{name} moved a finished exchange");
                match action {
                    Action::Accept(permit) => {
                        let by_answer = before == State::AwaitResponse && name == "Answer(101)";
                        let by_connect = before == State::Connecting && name == "Connected";
                        prop_assert!(by_answer || by_connect);
                        prop_assert!(!accepted && refused == 0);
                        accepted = true;
                        prop_assert_eq!(withheld.take().map(|sink| sink.release(permit)), Some("sink"));
                    }
                    Action::Finish => finished += 1,
                    Action::Refuse(_) => refused += 1,
                    _ => {}
                }
            }
            prop_assert!(count <= 3);
            let relaying = matches!(exchange.state(), State::Relaying { .. });
            prop_assert!(accepted || !relaying);
            let waits = !matches!(exchange.state(), State::Relaying { .. } | State::Done);
            prop_assert!(exchange.deadline().is_none() || waits);
        }
        prop_assert!(finished <= 1 && refused <= 1);
        prop_assert_eq!(exchange.state() == State::Done, finished == 1);
    }
}
