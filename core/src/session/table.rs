use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Limits, SessionError};
use crate::Timestamp;

/// The sessions that there are, and what was answered in them.
///
/// # Numbers
///
/// The number of a session is one more than the last, or the log's time in milliseconds where
/// that is more. It is never used again: a command that was under way when its session ended
/// would take effect a second time in another of the same number. That also holds for a group
/// that has lost its state, or goes on from an older one because an operator forced it to.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    last: u64,
    sessions: BTreeMap<u64, Entry>,
    /// When each is over. Always in step with `sessions`.
    ends: BTreeSet<(Timestamp, u64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    ends: Timestamp,
    /// The client is done with all commands of a lower number.
    done_below: u64,
    /// By number, what was applied: the output, encoded, if there was room to keep it.
    applied: BTreeMap<u64, Option<Bytes>>,
    /// Of all outputs.
    bytes: usize,
}

/// What is known of a command.
pub(super) enum Known {
    /// It is new.
    No,
    /// It was applied.
    Output(Bytes),
}

impl Table {
    pub(super) fn open(&mut self, now: Timestamp, limits: &Limits) -> Result<u64, SessionError> {
        if self.sessions.len() >= limits.sessions_max {
            return Err(SessionError::TooManySessions);
        }
        self.last = self.last.saturating_add(1).max(now.0);
        self.insert(self.last, limits.idle_until(now));
        Ok(self.last)
    }

    fn insert(&mut self, number: u64, ends: Timestamp) {
        let entry = Entry { ends, done_below: 0, applied: BTreeMap::new(), bytes: 0 };
        self.sessions.insert(number, entry);
        self.ends.insert((ends, number));
    }

    /// The session is used: it goes on for as long again.
    pub(super) fn touch(
        &mut self,
        number: u64,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<(), SessionError> {
        let ends = limits.idle_until(now);
        let entry = self.sessions.get_mut(&number).ok_or(SessionError::Over)?;
        self.ends.remove(&(entry.ends, number));
        entry.ends = ends;
        self.ends.insert((ends, number));
        Ok(())
    }

    /// What is known of a command that comes, perhaps not for the first time.
    pub(super) fn look_up(
        &mut self,
        number: u64,
        sequence: u64,
        done_below: u64,
        limits: &Limits,
    ) -> Result<Known, SessionError> {
        let entry = self.sessions.get_mut(&number).ok_or(SessionError::Over)?;
        // A client is not done with what it asks for.
        entry.be_done(done_below.min(sequence));
        if sequence < entry.done_below {
            return Err(SessionError::Done);
        }
        match entry.applied.get(&sequence) {
            Some(Some(output)) => return Ok(Known::Output(output.clone())),
            Some(None) => return Err(SessionError::OutputLost),
            None => {}
        }
        if entry.applied.len() >= limits.under_way_max {
            return Err(SessionError::TooManyUnderWay);
        }
        Ok(Known::No)
    }

    /// A command was applied, with this output, which is kept if there is room.
    pub(super) fn applied(
        &mut self,
        number: u64,
        sequence: u64,
        output: Option<Bytes>,
        limits: &Limits,
    ) {
        let Some(entry) = self.sessions.get_mut(&number) else { return };
        let room = limits.output_bytes_max.saturating_sub(entry.bytes);
        let kept = output.filter(|output| output.len() <= room);
        entry.bytes += kept.as_ref().map_or(0, Bytes::len);
        entry.applied.insert(sequence, kept);
    }

    pub(super) fn close(&mut self, number: u64) {
        if let Some(entry) = self.sessions.remove(&number) {
            self.ends.remove(&(entry.ends, number));
        }
    }

    /// When the first session is over.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Ends what is over by now.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some((_, number)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.close(number);
        }
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

impl Entry {
    fn be_done(&mut self, below: u64) {
        if below <= self.done_below {
            return;
        }
        self.done_below = below;
        let kept = self.applied.split_off(&below);
        for output in std::mem::replace(&mut self.applied, kept).into_values().flatten() {
            self.bytes -= output.len();
        }
    }
}

/// How a table is written down.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    last: u64,
    sessions: BTreeMap<u64, Entry>,
}

impl From<Table> for Written {
    fn from(table: Table) -> Self {
        Self { last: table.last, sessions: table.sessions }
    }
}

impl From<Written> for Table {
    fn from(written: Written) -> Self {
        let Written { last, sessions } = written;
        let ends = sessions.iter().map(|(number, entry)| (entry.ends, *number)).collect();
        Self { last, sessions, ends }
    }
}
