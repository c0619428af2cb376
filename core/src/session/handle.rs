use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::SessionCommand;

/// A client's side of a session: it numbers the commands. There must be one only, for two
/// would use the same numbers: a clone is for the case that this one is lost. It may be written
/// down and read again.
///
/// Commands are applied in the order in which they reach the group. A client that wants them
/// in its own order waits for an output before it proposes the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    number: u64,
    last: u64,
    under_way: BTreeSet<u64>,
}

impl Session {
    pub(super) fn new(number: u64) -> Self {
        Self { number, last: 0, under_way: BTreeSet::new() }
    }

    /// Gives a command its number. The result may be proposed as often as needed, at any
    /// replica, also at several at once: it takes effect once.
    pub fn command<C>(&mut self, command: C) -> SessionCommand<C> {
        self.last += 1;
        self.under_way.insert(self.last);
        SessionCommand::Command {
            session: self.number,
            sequence: self.last,
            done_below: self.under_way.first().copied().unwrap_or(self.last),
            command,
        }
    }

    /// The client has the output of that command, or gives it up, and will not propose it
    /// again. The group forgets the output with a later command.
    ///
    /// A command that was given up takes effect before the group hears of that, or never.
    pub fn done<C>(&mut self, command: &SessionCommand<C>) {
        if let SessionCommand::Command { session, sequence, .. } = command
            && *session == self.number
        {
            self.under_way.remove(sequence);
        }
    }

    /// To be proposed by a client that has nothing to say for long.
    pub fn keep<C>(&self) -> SessionCommand<C> {
        SessionCommand::Keep { session: self.number }
    }

    /// To be proposed in the end. Without it the session is over some time later.
    pub fn close<C>(&self) -> SessionCommand<C> {
        SessionCommand::Close { session: self.number }
    }
}
