//! Commands of a session take effect once, however often they are proposed, within limits.

#![allow(clippy::unwrap_used, reason = "tests")]

use plainsong::session::{Limits, Reply, Session, SessionCommand, SessionError, Sessions};
use plainsong::{Context, Index, Snapshot, StateMachine, Timestamp};
use serde::{Deserialize, Serialize};

/// Counts commands, and returns the requested number of bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
}

impl StateMachine for Counter {
    type Command = usize;
    type Output = (u64, Vec<u8>);
    plainsong::snapshot_by_clone!();

    fn apply(&mut self, _: &Context, bytes: usize) -> (u64, Vec<u8>) {
        self.count += 1;
        (self.count, vec![7; bytes])
    }
}

const SMALL: Limits =
    Limits { sessions_max: 2, under_way_max: 3, output_bytes_max: 200, idle_ms_max: 1000 };

/// Drives the state machine like a replica, at a chosen log time.
struct Driver {
    machine: Sessions<Counter>,
    now: u64,
}

type Answer = Result<Reply<(u64, Vec<u8>)>, SessionError>;

impl Driver {
    fn new() -> Self {
        Self { machine: Sessions::with_limits(Counter::default(), SMALL), now: 1_000_000 }
    }

    fn apply(&mut self, command: &SessionCommand<usize>) -> Answer {
        let context = Context::new(Index(1), Timestamp(self.now));
        if self.machine.wake_at().is_some_and(|at| at <= context.time()) {
            self.machine.wake(&context);
        }
        self.machine.apply(&context, command.clone())
    }

    fn open(&mut self) -> Result<Session, SessionError> {
        match self.apply(&SessionCommand::Open)? {
            Reply::Opened(session) => Ok(session),
            other => panic!("not a new session: {other:?}"),
        }
    }

    /// Applies a command and returns its output, the number of applied commands.
    fn count(&mut self, command: &SessionCommand<usize>) -> Result<u64, SessionError> {
        match self.apply(command)? {
            Reply::Output((count, _)) => Ok(count),
            other => panic!("not an output: {other:?}"),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.machine.snapshot().write(&mut bytes).unwrap();
        bytes
    }
}

#[test]
fn a_repeated_command_is_answered_with_its_first_output() {
    let mut driver = Driver::new();
    let mut session = driver.open().unwrap();
    let (one, two) = (session.command(0), session.command(0));
    assert_eq!(driver.count(&two), Ok(1));
    assert_eq!(driver.count(&one), Ok(2));
    assert_eq!(driver.count(&two), Ok(1));
    assert_eq!(driver.count(&one), Ok(2));
    assert_eq!(driver.machine.machine().count, 2);
}

#[test]
fn a_command_marked_as_done_is_never_applied() {
    let mut driver = Driver::new();
    let mut session = driver.open().unwrap();
    let (answered, given_up) = (session.command(0), session.command(0));
    assert_eq!(driver.count(&answered), Ok(1));
    session.done(&answered);
    session.done(&given_up);
    let next = session.command(0);
    assert_eq!(driver.count(&next), Ok(2));
    assert_eq!(driver.count(&answered), Err(SessionError::Done));
    assert_eq!(driver.count(&given_up), Err(SessionError::Done));
    assert_eq!(driver.machine.machine().count, 2);
}

#[test]
fn the_commands_of_an_expired_session_are_rejected() {
    let mut driver = Driver::new();
    let mut session = driver.open().unwrap();
    let one = session.command(0);
    assert_eq!(driver.count(&one), Ok(1));
    driver.now += 999;
    assert_eq!(driver.apply(&session.keep()), Ok(Reply::Kept));
    driver.now += 999;
    assert_eq!(driver.count(&one), Ok(1));
    driver.now += 1000;
    assert_eq!(driver.count(&one), Err(SessionError::Over));
    assert_eq!(driver.apply(&session.keep()), Err(SessionError::Over));
    assert_eq!((driver.machine.count(), driver.machine.machine().count), (0, 1));
    assert_eq!(driver.machine.wake_at(), None);
    // The number is not used again.
    driver.now = 0;
    driver.open().unwrap();
    assert_eq!(driver.count(&one), Err(SessionError::Over));
}

#[test]
fn the_commands_of_a_closed_session_are_rejected() {
    let mut driver = Driver::new();
    let mut session = driver.open().unwrap();
    let one = session.command(0);
    assert_eq!(driver.apply(&session.close()), Ok(Reply::Closed));
    assert_eq!(driver.apply(&session.close()), Ok(Reply::Closed));
    assert_eq!(driver.count(&one), Err(SessionError::Over));
    assert_eq!(driver.machine.wake_at(), None);
}

#[test]
fn sessions_commands_and_outputs_are_limited() {
    let mut driver = Driver::new();
    let mut session = driver.open().unwrap();
    driver.open().unwrap();
    assert_eq!(driver.open().err(), Some(SessionError::TooManySessions));
    let [small, large, other, fourth] = [50, 150, 50, 0].map(|bytes| session.command(bytes));
    assert_eq!(driver.count(&small), Ok(1));
    assert_eq!(driver.count(&large), Ok(2));
    assert_eq!(driver.count(&other), Ok(3));
    assert_eq!(driver.count(&fourth), Err(SessionError::TooManyUnderWay));
    assert_eq!(driver.count(&small), Ok(1));
    assert_eq!(driver.count(&large), Err(SessionError::OutputLost));
    session.done(&small);
    let [again] = [0].map(|bytes| session.command(bytes));
    assert_eq!(driver.count(&again), Ok(4));
    assert_eq!(driver.count(&fourth), Err(SessionError::TooManyUnderWay));
    session.done(&large);
    session.done(&other);
    let next = session.command(150);
    assert_eq!(driver.count(&next), Ok(5));
    // The bytes of dropped outputs are available again.
    assert_eq!(driver.count(&next), Ok(5));
    // A command that was rejected by the limit is applied once there is room.
    assert_eq!(driver.count(&fourth), Ok(6));
}

#[test]
fn sessions_are_part_of_the_snapshot() {
    let mut driver = Driver::new();
    let mut session = driver.open().unwrap();
    let (one, large) = (session.command(0), session.command(1000));
    driver.count(&one).unwrap();
    driver.count(&large).unwrap();
    let bytes = driver.snapshot();
    let mut restored = Driver::new();
    restored.machine.restore(&mut &bytes[..]).unwrap();
    assert_eq!(restored.snapshot(), bytes);
    assert_eq!(restored.machine.wake_at(), driver.machine.wake_at());
    assert_eq!(restored.count(&one), Ok(1));
    assert_eq!(restored.count(&large), Err(SessionError::OutputLost));
    restored.now += 1000;
    assert_eq!(restored.count(&one), Err(SessionError::Over));
}

#[test]
fn an_unreadable_snapshot_is_rejected_with_a_reason() {
    let mut bytes = Driver::new().snapshot();
    bytes[0] = 9;
    let refused = Driver::new().machine.restore(&mut &bytes[..]).unwrap_err().to_string();
    assert!(refused.contains("version 9"), "{refused}");
    let short = Driver::new().snapshot();
    for end in 0..short.len() {
        Driver::new().machine.restore(&mut &short[..end]).unwrap_err();
    }
}
