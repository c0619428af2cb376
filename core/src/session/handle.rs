use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::SessionCommand;

/// The client's handle on a session. It numbers the commands of the session.
///
/// Use one handle at a time: two copies would assign the same numbers to different commands. It is
/// `Clone`, `Serialize` and `Deserialize` so that a client can save it and resume after a crash.
///
/// # Order
///
/// Commands are applied in the order in which they reach the log. A client that proposes at several
/// replicas and needs a particular order waits for each output before it proposes the next command.
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

    /// Assigns the next number to a command. The result may be proposed as often as needed, at any
    /// replica and at several replicas at once: it takes effect at most once.
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

    /// Marks a command as done: the client has its output, or gives it up, and will not propose it
    /// again. The group learns this with a later command of the session and then drops the output.
    ///
    /// A command that was given up either takes effect before the group learns this, or never.
    pub fn done<C>(&mut self, command: &SessionCommand<C>) {
        if let SessionCommand::Command { session, sequence, .. } = command
            && *session == self.number
        {
            self.under_way.remove(sequence);
        }
    }

    /// Returns a command that keeps an idle session open. Propose it more often than
    /// [`Limits::idle_ms_max`](super::Limits::idle_ms_max).
    pub fn keep<C>(&self) -> SessionCommand<C> {
        SessionCommand::Keep { session: self.number }
    }

    /// Returns the command that closes the session. A session that is not closed expires once it
    /// has been idle for [`Limits::idle_ms_max`](super::Limits::idle_ms_max).
    pub fn close<C>(&self) -> SessionCommand<C> {
        SessionCommand::Close { session: self.number }
    }
}
