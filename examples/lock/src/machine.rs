use std::io;

use plainsong::{Context, MembersChanged, StateMachine, Timestamp};
use tokio::sync::mpsc::Sender;

use crate::Locks;
use crate::command::{Command, Output, Refusal, SessionEvent};

/// The state machine: the locks, and a channel that reports events of sessions to the server of
/// this replica. The channel is not part of the replicated state.
#[derive(Debug)]
pub struct LockMachine {
    locks: Locks,
    events: Sender<SessionEvent>,
}

impl LockMachine {
    /// Creates a state machine without locks.
    pub fn new(events: Sender<SessionEvent>) -> Self {
        Self { locks: Locks::default(), events }
    }

    /// Returns the locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Sends events to the server. Blocks while the channel is full; this cannot deadlock, because
    /// the server's receiver never waits for the replica. Drops the events if there is no server.
    fn report(&self, events: Vec<SessionEvent>) {
        for event in events {
            let _ = self.events.blocking_send(event);
        }
    }
}

impl StateMachine for LockMachine {
    type Command = Command;
    type Output = Output;
    type Snapshot = Locks;

    fn application() -> String {
        "lock".into()
    }

    fn apply(&mut self, context: &Context, command: Command) -> Output {
        let Some(server) = context.proposer() else { return Output::Refused(Refusal::NoServer) };
        let mut events = Vec::new();
        let output = self.locks.execute(context.time(), server, command, &mut events);
        self.report(events);
        output
    }

    fn snapshot(&self) -> Locks {
        self.locks.clone()
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.locks = plainsong::snapshot::read(from)?;
        self.report(vec![SessionEvent::Restored]);
        Ok(())
    }

    fn members_changed(&mut self, context: &Context, change: &MembersChanged) {
        let mut events = Vec::new();
        for server in &change.left {
            self.locks.dismiss(context.time(), *server, &mut events);
        }
        self.report(events);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.locks.next_deadline()
    }

    fn wake(&mut self, context: &Context) {
        let mut events = Vec::new();
        self.locks.expire(context.time(), &mut events);
        self.report(events);
    }
}
