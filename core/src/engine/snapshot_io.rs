//! The engine's commands to the snapshot manager, and its reports.

use bytes::Bytes;

use crate::engine::SnapshotHead;
use crate::wire::snapshot_name::SnapshotName;

/// A command of the engine for the snapshot manager. The engine never waits: the answer comes as a
/// [`SnapshotEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotCommand {
    /// Read a chunk, to be sent. Answered by [`SnapshotEvent::Read`].
    Read {
        /// Of which snapshot.
        name: SnapshotName,
        /// Which chunk.
        chunk: u64,
    },
    /// Write a chunk that was received. Answered by [`SnapshotEvent::Written`].
    Write {
        /// Of which snapshot. Another name than before begins anew and drops what there was.
        name: SnapshotName,
        /// Which chunk.
        chunk: u64,
        /// The chunk.
        bytes: Bytes,
    },
    /// All chunks are written: check them and make the snapshot complete. Answered by
    /// [`SnapshotEvent::Received`] or [`SnapshotEvent::Refused`].
    Finish(SnapshotName),
    /// Drop what has come in of this snapshot. Once it is complete it stays.
    Abandon(SnapshotName),
    /// Forget this snapshot, which is complete.
    Remove(SnapshotName),
}

/// A report of the snapshot manager to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEvent {
    /// A snapshot of this replica's own state is complete.
    Taken(SnapshotName),
    /// A chunk to be sent.
    Read {
        /// Of which snapshot.
        name: SnapshotName,
        /// Which chunk.
        chunk: u64,
        /// The chunk.
        bytes: Bytes,
    },
    /// A chunk that was received is written.
    Written {
        /// Of which snapshot.
        name: SnapshotName,
        /// Which chunk.
        chunk: u64,
    },
    /// A snapshot that was received is complete, durable, and what its name says.
    Received {
        /// Which snapshot.
        name: SnapshotName,
        /// What the protocol has to know of it.
        head: Box<SnapshotHead>,
    },
    /// A snapshot that was received is not what its name says; it was dropped.
    Refused {
        /// Which snapshot.
        name: SnapshotName,
        /// What is wrong.
        reason: String,
    },
    /// A snapshot of this replica's own state could not have been restored; it was dropped.
    Unreadable {
        /// Which snapshot.
        name: SnapshotName,
        /// Why.
        reason: String,
    },
}
