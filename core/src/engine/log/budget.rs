//! Limits on the size of the log, in memory and in its store.

use crate::engine::{Config, Engine};

/// Divisor of the log's memory limit: fetched entries that are not applied may take this fraction
/// of it.
const UNAPPLIED_PART: u64 = 8;

/// Reason why the log may not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttle {
    /// The disk is slower than the group.
    Disk,
    /// A snapshot is being written, after which the log can be compacted.
    Snapshot,
    /// The state machine is slower than the group.
    Applying,
}

impl<T> Engine<T> {
    /// Returns the reason why the log may not grow now, if there is one. This replica then orders
    /// nothing, confirms nothing and takes no fetched entries; it lags, and fetches later what it
    /// misses. The state always ends: disk and state machine make progress without the log, and
    /// once no snapshot is being written the log may grow until the next one.
    pub(crate) fn throttle(&self) -> Option<Throttle> {
        if self.write_queue.waiting_bytes() > self.config.writing_bytes_max {
            return Some(Throttle::Disk);
        }
        if self.log.stored_bytes() > self.log_bytes_max() && self.transfer.snapshots.is_taking() {
            return Some(Throttle::Snapshot);
        }
        let is_large = self.log.bytes() > self.config.log_bytes_max;
        (is_large && self.commit.applied < self.commit.index).then_some(Throttle::Applying)
    }

    /// Returns true if fetched entries may be taken. They have to wait until those in memory are
    /// applied, which may itself wait for a snapshot to be restored. Few are enough, because they
    /// can be fetched again.
    pub(crate) fn takes_entries(&self) -> bool {
        let is_large = self.log.bytes() > self.config.log_bytes_max / UNAPPLIED_PART;
        let is_behind =
            !self.config.volatile && is_large && self.commit.applied < self.commit.index;
        self.throttle().is_none() && !is_behind
    }

    /// Returns the maximum size of the log where it is kept: in memory or in the store.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        let Config { volatile, log_bytes_max, stored_bytes_max, .. } = self.config;
        if volatile { log_bytes_max } else { stored_bytes_max }
    }

    /// Describes for the status why the log may not grow.
    pub(crate) fn waiting_for_log_space(&self) -> Option<String> {
        let (log, stored, commit) = (self.log.bytes(), self.log.stored_bytes(), self.commit.index);
        Some(match self.throttle()? {
            Throttle::Disk => format!(
                "waiting for the disk of the log, which is slower than the group: {} bytes are \
                 not written yet",
                self.write_queue.waiting_bytes()
            ),
            Throttle::Snapshot => format!(
                "waiting for a snapshot to be written, so that the log, of {stored} bytes, can be \
                 compacted"
            ),
            Throttle::Applying => format!(
                "waiting for the state machine to apply up to index {commit}: the log has {log} \
                 bytes in memory"
            ),
        })
    }
}
