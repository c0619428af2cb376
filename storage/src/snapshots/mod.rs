//! The snapshots: the contract, and its stores.

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

/// Names a snapshot within its store; given by the store, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotKey(pub u64);

/// A snapshot that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// To read it by.
    pub key: SnapshotKey,
    /// What [`SnapshotStore::commit`] was told about it.
    pub about: Bytes,
}

/// The snapshots of one replica. Owned by one thread.
///
/// A snapshot is begun, written chunk by chunk, in any order, and committed; from then on
/// it is complete and never changes. What was begun and not committed is a draft: it can be
/// read, and is gone when the store is opened again. Several drafts may be written at the
/// same time.
pub trait SnapshotStore: Send {
    /// The complete snapshots, in the order in which they were committed.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or holds what cannot be believed.
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError>;

    /// Begins a draft.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    fn begin(&mut self) -> Result<SnapshotKey, StorageError>;

    /// Writes one chunk of a draft, in the place of an earlier one of that number. Need not
    /// be durable when it returns.
    ///
    /// # Errors
    ///
    /// When there is no such draft, or the store cannot be written.
    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError>;

    /// Makes a draft complete. Atomic: when it returns, all chunks and `about` are durable,
    /// as the kind of store defines it; a crash before leaves nothing of it.
    ///
    /// # Errors
    ///
    /// When there is no such draft, or the store cannot be written. Nothing is known of the
    /// snapshot then, and it is not tried again.
    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError>;

    /// Reads one chunk of a draft or of a complete snapshot.
    ///
    /// # Errors
    ///
    /// When it is not there, or is not what was written.
    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError>;

    /// Takes a draft or a complete snapshot away, if it is there.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError>;
}
