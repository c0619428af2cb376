use std::io;

use plainsong::{Context, Feed, Index, MembersChanged, StateMachine, Timestamp, Watcher};

use crate::{Command, Election, Output};

/// Changes that are kept for those who do not look at once; who misses one looks all the same.
const CHANGES_MAX: usize = 16;

/// The state machine: the election, and a feed that tells that something has changed, which is
/// no part of the state.
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
    /// The state.
    pub fn election(&self) -> &Election {
        &self.election
    }

    /// Tells that something has changed.
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
            // A matter of the leader alone, and several times a lease.
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
