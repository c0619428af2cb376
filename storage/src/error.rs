use std::path::{Path, PathBuf};

use crate::SnapshotKey;

/// Reason why a store operation failed. The text of each error says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The record to append does not follow the last one.
    #[error("record {index} does not follow the log, which ends at {last}")]
    Gap {
        /// Index of the record.
        index: u64,
        /// Index of the last record.
        last: u64,
    },
    /// The truncation would remove records that have been compacted already.
    #[error("cannot truncate the log after {after}: it is compacted through {compacted}")]
    Compacted {
        /// Index after which to truncate.
        after: u64,
        /// Index through which the log has been compacted.
        compacted: u64,
    },
    /// The snapshot does not exist.
    #[error("there is no snapshot {}", key.0)]
    NoSnapshot {
        /// Key of the snapshot.
        key: SnapshotKey,
    },
    /// The snapshot does not have this chunk.
    #[error("snapshot {} has no chunk {chunk}", key.0)]
    NoChunk {
        /// Key of the snapshot.
        key: SnapshotKey,
        /// Number of the chunk.
        chunk: u64,
    },
    /// Another process, or another handle of this process, has the store open.
    #[error(
        "the store in {} is in use by process {owner}: stop it, or give this replica a folder of \
         its own",
        path.display()
    )]
    InUse {
        /// The store's folder.
        path: PathBuf,
        /// Process id that the owner wrote to the lock file.
        owner: String,
    },
    /// A system call failed.
    #[error(
        "cannot {doing} {}: {reason}; check the disk and its permissions, then start again",
        path.display()
    )]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// A sync failed. Unsynced writes may or may not be on the disk, and reading them back cannot
    /// tell.
    #[error(
        "cannot sync {}: {reason}; writes since the last sync may be missing on the disk, so this \
         store cannot be opened until this machine has been restarted: check the disk, then \
         restart the machine", path.display()
    )]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// A sync of the store failed, and the system has not been restarted since.
    #[error(
        "a sync of the store in {} has failed since this machine was started ({reason}), so its \
         content in memory may be missing on the disk: check the disk, then restart the machine; \
         or move the folder away and start this replica with an empty one; or unmount the file \
         system, mount it again, and remove {}", path.display(), mark.display()
    )]
    SyncFailedBefore {
        /// The replica's folder.
        path: PathBuf,
        /// The file that contains the mark.
        mark: PathBuf,
        /// The file whose sync failed, and the error of the system.
        reason: String,
    },
    /// The store has a format that this version of the program does not support.
    #[error(
        "the store in {} has format {found}, but this program supports format {known}: run a \
         version of the program that supports format {found}",
        path.display()
    )]
    Version {
        /// The store's folder.
        path: PathBuf,
        /// Version of the store's format.
        found: u16,
        /// Version that this program supports.
        known: u16,
    },
    /// The content is not what was written.
    #[error("{} is damaged: {what}. {REMEDY}", path.display())]
    Damaged {
        /// The file, or the folder.
        path: PathBuf,
        /// Description and place of the damage.
        what: String,
    },
    /// An earlier write failed, so the content of the disk is unknown.
    #[error(
        "the store accepts no writes because an earlier one failed ({reason}): check the disk, \
         then start again"
    )]
    Failed {
        /// The error of that write.
        reason: String,
    },
}

const REMEDY: &str = "Move the store's folder away, keep it as evidence, and start this replica \
    with an empty one: it then catches up from the other replicas, under a new store id";

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
