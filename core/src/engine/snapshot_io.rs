//! Commands of the engine to the snapshot manager, and the manager's reports.

use bytes::Bytes;

use crate::engine::SnapshotHead;
use crate::wire::snapshot_name::SnapshotName;

/// A command of the engine to the snapshot manager. The engine never waits: the answer arrives as a
/// [`SnapshotEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotCommand {
    /// Read a chunk that is to be sent. Answered by [`SnapshotEvent::Read`].
    Read {
        /// Name of the snapshot.
        name: SnapshotName,
        /// Number of the chunk.
        chunk: u64,
    },
    /// Write a chunk that was received. Answered by [`SnapshotEvent::Written`].
    Write {
        /// Name of the snapshot. A name other than the last one starts anew, and drops all chunks
        /// written.
        name: SnapshotName,
        /// Number of the chunk.
        chunk: u64,
        /// Contents of the chunk.
        bytes: Bytes,
    },
    /// Check the snapshot, all chunks of which are written, and make it complete. Answered by
    /// [`SnapshotEvent::Received`] or [`SnapshotEvent::Refused`].
    Finish(SnapshotName),
    /// Drop the chunks of an incomplete snapshot. A complete one stays.
    Abandon(SnapshotName),
    /// Remove a complete snapshot.
    Remove(SnapshotName),
}

/// A report of the snapshot manager to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEvent {
    /// A snapshot of this replica's own state is complete.
    Taken(SnapshotName),
    /// A chunk that is to be sent.
    Read {
        /// Name of the snapshot.
        name: SnapshotName,
        /// Number of the chunk.
        chunk: u64,
        /// Contents of the chunk.
        bytes: Bytes,
    },
    /// A received chunk is written.
    Written {
        /// Name of the snapshot.
        name: SnapshotName,
        /// Number of the chunk.
        chunk: u64,
    },
    /// A received snapshot is complete, durable, and matches its name.
    Received {
        /// Name of the snapshot.
        name: SnapshotName,
        /// Protocol state at its position.
        head: Box<SnapshotHead>,
    },
    /// A received snapshot does not match its name, and was dropped.
    Refused {
        /// Name of the snapshot.
        name: SnapshotName,
        /// Reason.
        reason: String,
    },
    /// A snapshot of this replica's own state could not be restored, and was dropped.
    Unreadable {
        /// Name of the snapshot.
        name: SnapshotName,
        /// Reason.
        reason: String,
    },
}
