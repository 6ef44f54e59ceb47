//! The state machine.

use std::time::{Duration, Instant};

use crate::answer::{Answer, Ask, Verdict};
use crate::permit::Permit;

/// Where an exchange is.
///
/// ```text
/// AwaitRequest --Request--> Routing --Routed--> Connecting --Connected--> AwaitResponse --Answer: accepted--> Relaying
///                              |                 |  ^   \                  |    |                                |
///                              |                 |  |    \--Connected,     |    |                    both halves Ended,
///                              |   AttemptFailed |  |       terminating----|----|--> Relaying        or Broken
///                              |    with a pause |  | Tick                 |    |                                |
///                              |                 v  |       AttemptFailed  |    |                                v
///                              |                Pausing <---with a pause---+    |                              Done
///                              |                 |                              |                                ^
///                              +--Refuse---------+-- AttemptFailed, deadline, ---+--> Refusing --Replied----------+
///                                                    Answer: refused, invalid
/// ```
///
/// `ClientGone` leads to `Done` from everywhere. Inputs that a state does not know change nothing and ask for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No request yet.
    AwaitRequest,
    /// A request came; where it goes is being decided.
    Routing,
    /// An upstream is being connected.
    Connecting,
    /// An attempt failed; the next one waits.
    Pausing,
    /// The request was sent; its answer is awaited. No payload has been sent.
    AwaitResponse,
    /// The upstream accepted: payload flows until both halves ended.
    Relaying {
        /// From the client to the upstream.
        down: Half,
        /// From the upstream to the client.
        up: Half,
    },
    /// The client is being answered with a status code.
    Refusing,
    /// Over.
    Done,
}

/// One half of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Bytes may flow.
    Open,
    /// It came to its end.
    Ended,
}

/// A direction of a tunnel, named by where its bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    Down,
    /// From the upstream to the client.
    Up,
}

/// How a routed request is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The upstream is raw bytes: its connection is the acceptance.
    pub terminate: bool,
    /// How long the acceptance may take, all attempts and pauses together; `None` for no limit. Envoy's `timeout` of the
    /// route, which it applies to upgrades and not to CONNECT.
    pub response_timeout: Option<Duration>,
    /// How long one attempt may wait for its answer, from the sending of the request (`per_try_timeout`).
    pub per_try_timeout: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A request for a tunnel came.
    Request(Ask),
    /// Its route was found.
    Routed(Plan),
    /// It is refused before any upstream was asked.
    Refuse,
    /// An upstream connection stands.
    Connected,
    /// The upstream answered.
    Answer(Answer),
    /// The attempt failed, or its answer is one that the policy wants retried; or the pause between two is to be the last.
    /// `again` is how long to wait before the next attempt; `None` when there is to be none.
    AttemptFailed {
        /// The pause before the next attempt.
        again: Option<Duration>,
    },
    /// Time has passed.
    Tick,
    /// One direction came to its end.
    Ended(Direction),
    /// The tunnel broke: a reset or a timeout, passed on by the relay.
    Broken,
    /// The refusal was sent.
    Replied,
    /// The client gave up.
    ClientGone,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Find out where the request goes.
    Route,
    /// Connect an upstream.
    Connect,
    /// Send the request's head upstream, without any payload.
    SendRequest,
    /// Pass an interim answer on.
    Inform,
    /// Tell the client that the tunnel stands, then relay. The permit opens the way for payload.
    Accept(Permit),
    /// Answer the client with a refusal.
    Refuse(Cause),
    /// The attempt took longer than `per_try_timeout`: tell the machine, with [`Input::AttemptFailed`], whether there is to
    /// be another.
    TryExpired,
    /// Drop what there is of the upstream: it is reset.
    DropUpstream,
    /// The exchange is over.
    Finish,
}

/// Why the client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Refused before any upstream was asked.
    Local,
    /// The last attempt failed.
    AttemptFailed,
    /// The upstream refused; its answer is passed on.
    Upstream,
    /// The upstream's answer is not valid; a 502.
    Invalid,
    /// `response_timeout` is over; a 504.
    Timeout,
}

/// The actions that one input asks for, in order: at most three.
#[derive(Debug, Default)]
pub struct Actions {
    slots: [Option<Action>; 3],
}

impl Actions {
    fn push(&mut self, action: Action) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(action);
        }
    }

    /// Takes the first action.
    pub fn pop(&mut self) -> Option<Action> {
        let first = self.slots.iter().position(Option::is_some)?;
        self.slots.get_mut(first).and_then(Option::take)
    }
}

/// One exchange: a request for a tunnel, to its end.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    terminate: bool,
    per_try: Option<Duration>,
    attempts: u32,
    deadline: Option<Instant>,
    attempt_deadline: Option<Instant>,
    resume: Option<Instant>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchange {
    /// An exchange without a request.
    pub fn new() -> Self {
        Self {
            state: State::AwaitRequest,
            terminate: false,
            per_try: None,
            attempts: 0,
            deadline: None,
            attempt_deadline: None,
            resume: None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When [`Input::Tick`] is due next; `None` when nothing waits for time.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Pausing => self.resume,
            State::AwaitResponse => self.attempt_deadline,
            _ => None,
        };
        let overall = match self.state {
            State::Connecting | State::Pausing | State::AwaitResponse => self.deadline,
            _ => None,
        };
        own.into_iter().chain(overall).min()
    }

    /// Takes in what happened at `now` and adds what to do about it.
    pub fn handle(&mut self, now: Instant, input: Input, actions: &mut Actions) {
        match (self.state, input) {
            (State::Done, _) => {}
            (_, Input::ClientGone) => self.client_gone(actions),
            (State::AwaitRequest, Input::Request(_)) => {
                self.state = State::Routing;
                actions.push(Action::Route);
            }
            (State::AwaitRequest | State::Routing, Input::Refuse) => self.refuse(Cause::Local, actions),
            (State::Routing, Input::Routed(plan)) => {
                self.terminate = plan.terminate;
                self.per_try = plan.per_try_timeout;
                self.deadline = plan.response_timeout.and_then(|limit| now.checked_add(limit));
                self.connect(actions);
            }
            (State::Connecting, Input::Connected) if self.terminate => self.accept(actions),
            (State::Connecting, Input::Connected) => {
                self.state = State::AwaitResponse;
                self.attempt_deadline = self.per_try.and_then(|limit| now.checked_add(limit));
                actions.push(Action::SendRequest);
            }
            (State::AwaitResponse, Input::Answer(answer)) => self.answer(answer, actions),
            (State::Connecting | State::Pausing | State::AwaitResponse, Input::AttemptFailed { again }) => {
                self.failed(now, again, actions);
            }
            (State::Connecting | State::AwaitResponse | State::Pausing, Input::Tick) => self.tick(now, actions),
            (State::Relaying { down, up }, Input::Ended(direction)) => self.ended(down, up, direction, actions),
            (State::Relaying { .. }, Input::Broken) | (State::Refusing, Input::Replied) => self.finish(actions),
            _ => {}
        }
    }

    fn connect(&mut self, actions: &mut Actions) {
        self.state = State::Connecting;
        self.attempts = self.attempts.saturating_add(1);
        self.attempt_deadline = None;
        self.resume = None;
        actions.push(Action::Connect);
    }

    fn accept(&mut self, actions: &mut Actions) {
        self.state = State::Relaying { down: Half::Open, up: Half::Open };
        actions.push(Action::Accept(Permit::new()));
    }

    fn answer(&mut self, answer: Answer, actions: &mut Actions) {
        match answer.verdict() {
            Verdict::Interim => actions.push(Action::Inform),
            Verdict::Accepted => self.accept(actions),
            Verdict::Refused => self.refuse(Cause::Upstream, actions),
            Verdict::Invalid => {
                actions.push(Action::DropUpstream);
                self.refuse(Cause::Invalid, actions);
            }
        }
    }

    fn failed(&mut self, now: Instant, again: Option<Duration>, actions: &mut Actions) {
        if self.state != State::Pausing {
            actions.push(Action::DropUpstream);
        }
        match again {
            Some(pause) => {
                self.state = State::Pausing;
                self.resume = Some(now.checked_add(pause).unwrap_or(now));
            }
            None => self.refuse(Cause::AttemptFailed, actions),
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Actions) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.deadline) {
            if self.state != State::Pausing {
                actions.push(Action::DropUpstream);
            }
            self.refuse(Cause::Timeout, actions);
        } else if self.state == State::Pausing && due(self.resume) {
            self.connect(actions);
        } else if self.state == State::AwaitResponse && due(self.attempt_deadline) {
            self.attempt_deadline = None;
            actions.push(Action::TryExpired);
        }
    }

    fn ended(&mut self, mut down: Half, mut up: Half, direction: Direction, actions: &mut Actions) {
        match direction {
            Direction::Down => down = Half::Ended,
            Direction::Up => up = Half::Ended,
        }
        self.state = State::Relaying { down, up };
        if (down, up) == (Half::Ended, Half::Ended) {
            self.finish(actions);
        }
    }

    fn refuse(&mut self, cause: Cause, actions: &mut Actions) {
        self.state = State::Refusing;
        actions.push(Action::Refuse(cause));
    }

    fn client_gone(&mut self, actions: &mut Actions) {
        if matches!(self.state, State::Connecting | State::AwaitResponse | State::Relaying { .. } | State::Refusing) {
            actions.push(Action::DropUpstream);
        }
        self.finish(actions);
    }

    fn finish(&mut self, actions: &mut Actions) {
        self.state = State::Done;
        actions.push(Action::Finish);
    }
}
