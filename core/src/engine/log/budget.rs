//! What bounds the log, in memory and in its store.

use crate::engine::{Config, Engine};

/// Entries that were fetched and are not applied may take that part of what the log may take in
/// memory.
const UNAPPLIED_PART: u64 = 8;

/// What the log waits for before it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttle {
    /// The disk is slower than the group.
    Disk,
    /// A snapshot is being written, behind which the log can be cut.
    Snapshot,
    /// The state machine is slower than the group.
    Applying,
}

impl<T> Engine<T> {
    /// Whether the log may not grow now. Then this replica orders nothing, confirms nothing
    /// and takes nothing that it fetched; it lags, and fetches later what it misses. That
    /// passes by itself: disk and state machine go on without the log, and when no snapshot
    /// is being written the log grows until the next is.
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

    /// Whether entries that were fetched find room: not before those in memory are applied, which
    /// may have to wait for a snapshot to be restored. They can be had again, so few are enough.
    pub(crate) fn takes_entries(&self) -> bool {
        let is_large = self.log.bytes() > self.config.log_bytes_max / UNAPPLIED_PART;
        let is_behind =
            !self.config.volatile && is_large && self.commit.applied < self.commit.index;
        self.throttle().is_none() && !is_behind
    }

    /// What the log may take where it is kept.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        let Config { volatile, log_bytes_max, stored_bytes_max, .. } = self.config;
        if volatile { log_bytes_max } else { stored_bytes_max }
    }

    /// The same for people.
    pub(crate) fn waiting_for_log_space(&self) -> Option<String> {
        let (log, stored, commit) = (self.log.bytes(), self.log.stored_bytes(), self.commit.index);
        Some(match self.throttle()? {
            Throttle::Disk => format!(
                "waiting for the disk of the log, which is slower than the group: {} bytes are to \
                 be written",
                self.write_queue.waiting_bytes()
            ),
            Throttle::Snapshot => format!(
                "waiting for a snapshot to be written, so that the log, of {stored} bytes, can be \
                 cut"
            ),
            Throttle::Applying => format!(
                "waiting for the state machine to apply up to index {commit}: the log has {log} \
                 bytes in memory"
            ),
        })
    }
}
