//! A snapshot store that accepts a limited number of chunks, so that a test can pause a transfer.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use plainsong_storage::{
    MemorySnapshots, SnapshotKey, SnapshotStore, StorageError, StoredSnapshot,
};

use super::ledger::DEADLINE;

/// The number of chunks that may be written. Further writes block until the gate opens, at most for
/// the deadline of a test.
pub(crate) struct Gate(Arc<(Mutex<u64>, Condvar)>);

impl Gate {
    pub(crate) fn until(chunks: u64) -> Self {
        Self(Arc::new((Mutex::new(chunks), Condvar::new())))
    }

    pub(crate) fn open_until(&self, chunks: u64) {
        *self.0.0.lock().unwrap() = chunks;
        self.0.1.notify_all();
    }

    pub(crate) fn snapshots(&self) -> GatedSnapshots {
        let inner = MemorySnapshots::new();
        GatedSnapshots { inner, written: 0, gate: Arc::clone(&self.0) }
    }
}

pub(crate) struct GatedSnapshots {
    inner: MemorySnapshots,
    written: u64,
    gate: Arc<(Mutex<u64>, Condvar)>,
}

impl SnapshotStore for GatedSnapshots {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        self.inner.complete()
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.inner.begin()
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        let (limit, opened) = &*self.gate;
        let closed = |limit: &mut u64| self.written >= *limit;
        drop(opened.wait_timeout_while(limit.lock().unwrap(), DEADLINE, closed).unwrap());
        self.written += 1;
        self.inner.write(key, chunk, bytes)
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        self.inner.commit(key, about)
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        self.inner.read(key, chunk)
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.inner.remove(key)
    }
}
