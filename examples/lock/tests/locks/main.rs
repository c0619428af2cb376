//! The replicated state on its own: grants, their order, and tokens.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod limits;
mod losing;
mod random_commands;
mod resuming;
mod snapshots;
mod waiting;

use lock::command::{Command, Loss, Mode, Output, Patience, SessionEvent, SessionId, Terms};
use lock::{Locks, Name, Owner};
use plainsong::{Incarnation, Nonce, ReplicaId, Timestamp};

/// The locks and a log time that only the test advances.
#[derive(Clone, Default)]
struct World {
    locks: Locks,
    time: u64,
    events: Vec<SessionEvent>,
}

impl World {
    #[track_caller]
    fn does(&mut self, server: u32, command: Command) -> Output {
        let mut events = Vec::new();
        let output = self.locks.execute(Timestamp(self.time), run(server), command, &mut events);
        self.took(events);
        output
    }

    #[track_caller]
    fn lock(&mut self, (server, session): (u32, u64), lock: &str, terms: Terms) -> Output {
        self.does(server, Command::Acquire { session, name: name(lock), terms })
    }

    #[track_caller]
    fn unlock(&mut self, (server, session): (u32, u64), lock: &str) -> Output {
        self.does(server, Command::Release { session, name: name(lock) })
    }

    /// Advances the time to `time`, with a wake-up if one is due, as in a replica.
    #[track_caller]
    fn passes(&mut self, time: u64) {
        self.time = time;
        if self.locks.next_deadline().is_some_and(|at| at.0 <= time) {
            let mut events = Vec::new();
            self.locks.expire(Timestamp(time), &mut events);
            self.took(events);
        }
    }

    #[track_caller]
    fn leaves(&mut self, server: u32) {
        let mut events = Vec::new();
        self.locks.dismiss(Timestamp(self.time), run(server), &mut events);
        self.took(events);
    }

    #[track_caller]
    fn took(&mut self, events: Vec<SessionEvent>) {
        self.locks.check().unwrap();
        self.events.extend(events);
    }

    fn news(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.events)
    }
}

fn run(server: u32) -> Incarnation {
    Incarnation { replica: ReplicaId(server), nonce: Nonce(7) }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

const WAIT: Terms = Terms {
    mode: Mode::Exclusive,
    patience: Patience::Endless,
    lease_ms: None,
    linger_ms: 0,
    owner: OWNER,
};

const TRY: Terms = Terms {
    mode: Mode::Exclusive,
    patience: Patience::None,
    lease_ms: None,
    linger_ms: 0,
    owner: OWNER,
};

const SHARE: Terms = Terms {
    mode: Mode::Shared,
    patience: Patience::Endless,
    lease_ms: None,
    linger_ms: 0,
    owner: OWNER,
};

const OWNER: Owner = Owner::NONE;

fn granted((server, number): (u32, u64), lock: &str, token: u64) -> SessionEvent {
    let session = SessionId { server: run(server), number };
    SessionEvent::Granted { session, name: name(lock), token }
}

fn timed_out((server, number): (u32, u64), lock: &str) -> SessionEvent {
    SessionEvent::TimedOut { session: SessionId { server: run(server), number }, name: name(lock) }
}

fn lost((server, number): (u32, u64), lock: &str, why: Loss) -> SessionEvent {
    SessionEvent::Lost { session: SessionId { server: run(server), number }, name: name(lock), why }
}

const A: (u32, u64) = (1, 1);

const B: (u32, u64) = (2, 1);

const C: (u32, u64) = (3, 1);

const D: (u32, u64) = (3, 2);
