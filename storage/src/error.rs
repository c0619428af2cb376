use std::path::{Path, PathBuf};

use crate::SnapshotKey;

/// Why a store could not do something. Every text says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// An operation does not fit what is there.
    #[error("record {index} does not follow the log, which ends at {last}")]
    Gap {
        /// The record that was to be appended.
        index: u64,
        /// The last there is.
        last: u64,
    },
    /// An operation would take away what was compacted already.
    #[error("cannot cut the log after {after}: it was compacted through {compacted}")]
    Compacted {
        /// Where it was to be cut.
        after: u64,
        /// How far it was compacted.
        compacted: u64,
    },
    /// A snapshot is not there.
    #[error("there is no snapshot {}", key.0)]
    NoSnapshot {
        /// Which.
        key: SnapshotKey,
    },
    /// A chunk of a snapshot is not there.
    #[error("snapshot {} has no chunk {chunk}", key.0)]
    NoChunk {
        /// Of which snapshot.
        key: SnapshotKey,
        /// Which chunk.
        chunk: u64,
    },
    /// Another process, or another handle of this one, has the store.
    #[error(
        "the store in {} is in use by process {owner}: stop it, or give this replica a folder of \
         its own",
        path.display()
    )]
    InUse {
        /// The store's folder.
        path: PathBuf,
        /// The process, as it called itself.
        owner: String,
    },
    /// The system refused.
    #[error(
        "cannot {doing} {}: {reason}; see to the disk and the rights to it, then start again",
        path.display()
    )]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A sync failed: what was written may or may not be on the disk, and reading it back does not
    /// tell.
    #[error(
        "cannot sync {}: {reason}; what was written since the last sync may be missing on the \
         disk, so this store is not opened again before this machine was restarted: see to the \
         disk, then restart the machine", path.display()
    )]
    Sync {
        /// What was to be synced.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A sync of the store failed, and the system was not restarted since.
    #[error(
        "a sync of the store in {} failed since this machine was started ({reason}), so what can \
         be read of it need not be on the disk: see to the disk, then restart the machine; or move \
         the folder away and start this replica with an empty one; or unmount the file system, \
         mount it again, and remove {}", path.display(), mark.display()
    )]
    SyncFailedBefore {
        /// The replica's folder.
        path: PathBuf,
        /// The file that says so.
        mark: PathBuf,
        /// What could not be synced, and what the system said.
        reason: String,
    },
    /// The store was written by a version of this program that this one does not know.
    #[error(
        "the store in {} has format {found}, and this program knows format {known}: run the \
         program that wrote it",
        path.display()
    )]
    Version {
        /// The store's folder.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// What is known.
        known: u16,
    },
    /// What is there is not what was written.
    #[error("{} is damaged: {what}. {REMEDY}", path.display())]
    Damaged {
        /// The file, or the folder.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// An earlier write failed, so nothing is known of what is on the disk.
    #[error(
        "the store takes nothing any more since a write failed ({reason}): see to the disk, then \
         start again"
    )]
    Failed {
        /// How the write failed.
        reason: String,
    },
}

const REMEDY: &str = "Move the store's folder away, keep it as evidence, and start this replica \
    with an empty one: it catches up from the others, under a new store id";

impl StorageError {
    pub(crate) fn io(doing: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self::Io { doing, path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn sync(path: &Path, reason: impl ToString) -> Self {
        Self::Sync { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}
