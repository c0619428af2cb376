use std::io;

use plainsong::{Context, Feed, Index, MembersChanged, StateMachine, Timestamp, Watcher};

use crate::{Command, Election, Output};

/// Number of changes buffered for slow watchers. A watcher that misses some reads the election
/// anyway.
const CHANGES_MAX: usize = 16;

/// The state machine: the election, plus a feed that reports changes. The feed is not part of the
/// replicated state.
#[derive(Debug)]
pub struct ElectionMachine {
    election: Election,
    changes: Feed<()>,
}

impl Default for ElectionMachine {
    fn default() -> Self {
        Self { election: Election::default(), changes: Feed::new(CHANGES_MAX) }
    }
}

impl ElectionMachine {
    /// Returns the election.
    pub fn election(&self) -> &Election {
        &self.election
    }

    /// Returns a watcher that is notified after each change of the election, except renewals.
    pub fn watch(&self) -> Watcher<()> {
        self.changes.watch()
    }

    fn change<O>(&mut self, index: Index, change: impl FnOnce(&mut Election) -> O) -> O {
        let output = change(&mut self.election);
        self.changes.push(index, ());
        output
    }
}

impl StateMachine for ElectionMachine {
    type Command = Command;
    type Output = Output;
    type Snapshot = Election;

    fn application() -> String {
        "election".into()
    }

    fn apply(&mut self, context: &Context, command: Command) -> Output {
        let Some(member) = context.proposer() else { return Output::Void };
        let time = context.time();
        if let Command::Renew { .. } = command {
            // Renewals come several times per lease and matter to the leader only.
            return self.election.execute(time, member, command);
        }
        self.change(context.index(), |election| election.execute(time, member, command))
    }

    fn snapshot(&self) -> Election {
        self.election.clone()
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.election = plainsong::snapshot::read(from)?;
        self.changes.jump();
        Ok(())
    }

    fn members_changed(&mut self, context: &Context, change: &MembersChanged) {
        let time = context.time();
        self.change(context.index(), |election| {
            for run in &change.left {
                election.dismiss(time, *run);
            }
        });
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.election.next_deadline()
    }

    fn wake(&mut self, context: &Context) {
        let time = context.time();
        self.change(context.index(), |election| election.expire(time));
    }
}
