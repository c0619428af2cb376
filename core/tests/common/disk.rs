//! Stores that outlive the replica that uses them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use plainsong_storage::{
    LogOp, LogStore, MemoryLog, MemorySnapshots, Record, SnapshotKey, SnapshotStore, StorageError,
    StoredLog, StoredSnapshot,
};

/// A handle on a store. Clones are handles on the same store.
#[derive(Default)]
pub(crate) struct Kept<S>(Arc<Mutex<S>>);

impl<S> Clone for Kept<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Kept<S> {
    /// Accesses the store without the replica noticing.
    pub(crate) fn with<V>(&self, access: impl FnOnce(&mut S) -> V) -> V {
        access(&mut self.0.lock().unwrap())
    }
}

impl LogStore for Kept<MemoryLog> {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        self.with(|log| log.recover(from))
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.with(|log| log.read(first, bytes_max))
    }

    fn write(&mut self, ops: Vec<LogOp>) -> Result<(), StorageError> {
        self.with(|log| log.write(ops))
    }
}

impl SnapshotStore for Kept<MemorySnapshots> {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        self.with(MemorySnapshots::complete)
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.with(MemorySnapshots::begin)
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.with(|store| store.write(key, chunk, bytes))
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        self.with(|store| store.commit(key, about))
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        self.with(|store| store.read(key, chunk))
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.with(|store| store.remove(key))
    }
}
