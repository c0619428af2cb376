//! Stores with one failing call, as on a disk that is full or broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use plainsong_storage::{
    LogOp, LogStore, MemoryLog, MemorySnapshots, Record, SnapshotKey, SnapshotStore, StorageError,
    StoredLog, StoredSnapshot,
};

use super::disk::Kept;

/// The part of the failing write that reaches the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    Nothing,
    /// The first half of a log write; nothing of a snapshot write.
    Half,
    Everything,
}

/// A store of which the n-th changing call fails. Later changing calls must not happen and are
/// counted.
pub(crate) struct Failing<S> {
    store: Kept<S>,
    calls_left: u64,
    left: Left,
    calls_after: Arc<AtomicU64>,
}

impl<S> Failing<S> {
    pub(crate) fn new(store: Kept<S>, call: u64, left: Left) -> Self {
        Self { store, calls_left: call, left, calls_after: Arc::default() }
    }

    /// Returns the number of changing calls after the failed one.
    pub(crate) fn calls_after(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.calls_after)
    }

    /// Counts a changing call. Returns true if it must fail.
    fn fails(&mut self) -> bool {
        match self.calls_left.checked_sub(1) {
            Some(left) => self.calls_left = left,
            None => drop(self.calls_after.fetch_add(1, Ordering::SeqCst)),
        }
        self.calls_left == 0
    }

    fn changed<V>(
        &mut self,
        change: impl FnOnce(&mut Kept<S>) -> Result<V, StorageError>,
    ) -> Result<V, StorageError> {
        if !self.fails() {
            return change(&mut self.store);
        }
        if matches!(self.left, Left::Everything) {
            change(&mut self.store)?;
        }
        Err(StorageError::Failed { reason: "no space left on device".into() })
    }
}

impl LogStore for Failing<MemoryLog> {
    fn recover(&mut self, from: u64) -> Result<StoredLog, StorageError> {
        self.store.recover(from)
    }

    fn read(&mut self, first: u64, bytes_max: usize) -> Result<Vec<Record>, StorageError> {
        self.store.read(first, bytes_max)
    }

    fn write(&mut self, mut ops: Vec<LogOp>) -> Result<(), StorageError> {
        if self.calls_left == 1 && matches!(self.left, Left::Half) {
            ops.truncate(ops.len().div_ceil(2));
            self.store.write(ops.clone())?;
        }
        self.changed(|store| store.write(ops))
    }
}

impl SnapshotStore for Failing<MemorySnapshots> {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        self.store.complete()
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.changed(SnapshotStore::begin)
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.changed(|store| store.write(key, chunk, bytes))
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        self.changed(|store| store.commit(key, about))
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        self.store.read(key, chunk)
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.changed(|store| store.remove(key))
    }
}
