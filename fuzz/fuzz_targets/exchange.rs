//! Inputs in any order at any time: payload is let through at most once, and only after an acceptance.
#![no_main]

use std::time::{Duration, Instant};

use adit_http::ResponseHead;
use adit_upgrade::{Action, Actions, Ask, Direction, Exchange, Input, Plan, State, judge};
use http::{StatusCode, Version};
use libfuzzer_sys::fuzz_target;

fn input(byte: u8, ask: Ask) -> Input {
    let answer = |status: u16| {
        let head = ResponseHead::new(StatusCode::from_u16(status).expect("a status"));
        Input::Answer(judge(ask, &head, Version::HTTP_11, Some(Version::HTTP_2)))
    };
    let timeout = (byte & 16 != 0).then_some(Duration::from_millis(500));
    match byte % 16 {
        0 => Input::Request(ask),
        1 => Input::Routed(Plan { terminate: byte & 32 != 0, response_timeout: timeout, per_try_timeout: timeout }),
        2 => Input::Refuse,
        3 => Input::Connected,
        4 => answer(103),
        5 => answer(101),
        6 => answer(200),
        7 => answer(403),
        8 => Input::AttemptFailed { again: timeout },
        9 => Input::Ended(Direction::Down),
        10 => Input::Ended(Direction::Up),
        11 => Input::Broken,
        12 => Input::Replied,
        13 => Input::ClientGone,
        _ => Input::Tick,
    }
}

fuzz_target!(|steps: Vec<(u8, u16)>| {
    let ask = if steps.len() % 2 == 0 { Ask::Upgrade } else { Ask::Connect };
    let mut now = Instant::now();
    let mut exchange = Exchange::new();
    let (mut accepted, mut finished) = (0, 0);
    for (byte, wait) in steps {
        now += Duration::from_millis(wait.into());
        let before = exchange.state();
        let mut actions = Actions::default();
        exchange.handle(now, input(byte, ask), &mut actions);
        while let Some(action) = actions.pop() {
            assert!(before != State::Done);
            match action {
                Action::Accept(_) => {
                    assert!(matches!(before, State::AwaitResponse | State::Connecting));
                    accepted += 1;
                }
                Action::Finish => finished += 1,
                _ => {}
            }
        }
        assert!(accepted > 0 || !matches!(exchange.state(), State::Relaying { .. }));
    }
    assert!(accepted <= 1 && finished <= 1);
});
