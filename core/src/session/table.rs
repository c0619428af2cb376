use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Limits, SessionError};
use crate::Timestamp;

/// The open sessions, with the outputs kept for their clients.
///
/// # Numbers
///
/// The number of a session is the last number plus one, or the log's time in milliseconds if that
/// is greater. A number must never be used twice: a command that was in flight when its session
/// ended could take effect a second time in another session with the same number. The log's time
/// ensures this even in a group that has lost its state, or that an operator forced to continue
/// from an older one.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    last: u64,
    sessions: BTreeMap<u64, Entry>,
    /// The time at which each session expires. Contains one element per element of `sessions`.
    ends: BTreeSet<(Timestamp, u64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    ends: Timestamp,
    /// The client is done with all commands that have a lower number than this.
    done_below: u64,
    /// The applied commands by number, with the encoded output if there was room for it.
    applied: BTreeMap<u64, Option<Bytes>>,
    /// Total size of the kept outputs.
    bytes: usize,
}

/// The result of looking up a command.
pub(super) enum Known {
    /// The command is new.
    No,
    /// The command was applied, with this encoded output.
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

    /// Restarts the idle time of a session.
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

    /// Looks up a command, which may have been applied before.
    pub(super) fn look_up(
        &mut self,
        number: u64,
        sequence: u64,
        done_below: u64,
        limits: &Limits,
    ) -> Result<Known, SessionError> {
        let entry = self.sessions.get_mut(&number).ok_or(SessionError::Over)?;
        // A client is not done with the command that it proposes.
        entry.mark_done(done_below.min(sequence));
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

    /// Records a command as applied. Keeps its output if there is room.
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

    /// Returns the time at which the next session expires.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Closes the sessions that have expired by `now`.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some((_, number)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.close(number);
        }
    }

    /// Returns the number of open sessions.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

impl Entry {
    fn mark_done(&mut self, below: u64) {
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

/// The serialized form of a table.
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
