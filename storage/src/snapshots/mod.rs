//! The snapshots: the trait and its implementations.

mod disk;
#[cfg(any(test, feature = "testing"))]
mod faulty;
mod memory;

use bytes::Bytes;

use crate::StorageError;

pub use disk::DiskSnapshots;
#[cfg(fuzzing)]
pub(crate) use disk::fuzz;
#[cfg(any(test, feature = "testing"))]
pub use faulty::FaultySnapshots;
pub use memory::MemorySnapshots;

/// Key of a snapshot within its store. Assigned by the store and never reused for a complete
/// snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotKey(pub u64);

/// A committed snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Key for reading its chunks.
    pub key: SnapshotKey,
    /// The description passed to [`SnapshotStore::commit`].
    pub about: Bytes,
}

/// Stores the snapshots of one replica. Used by one thread.
///
/// A snapshot is begun, written in chunks in any order, and committed. From then on it is complete
/// and never changes. An uncommitted snapshot is a *draft*: it can be read, and is removed when the
/// store is opened again. Several drafts may be written at the same time.
pub trait SnapshotStore: Send {
    /// Returns the complete snapshots in the order in which they were committed.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or is damaged.
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError>;

    /// Begins a draft.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    fn begin(&mut self) -> Result<SnapshotKey, StorageError>;

    /// Writes a chunk of a draft, replacing an earlier one with that number. The chunk need not be
    /// durable when this returns.
    ///
    /// # Errors
    ///
    /// There is no such draft, or the store cannot be written.
    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError>;

    /// Completes a draft, atomically. When it returns, all chunks and `about` are durable, as the
    /// store defines it. A crash before that leaves nothing of the snapshot.
    ///
    /// # Errors
    ///
    /// There is no such draft, or the store cannot be written. In the latter case the snapshot may
    /// or may not be complete, and the commit is not repeated.
    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError>;

    /// Reads a chunk of a draft or of a complete snapshot.
    ///
    /// # Errors
    ///
    /// The chunk does not exist, or is damaged.
    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError>;

    /// Removes a draft or a complete snapshot. Has no effect if it does not exist.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError>;
}
