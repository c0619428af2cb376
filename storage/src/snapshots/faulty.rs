use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{MemorySnapshots, SnapshotKey, SnapshotStore, StorageError, StoredSnapshot};

/// Snapshots on the disk of a simulated machine that can lose power at any moment. A crash keeps
/// all committed snapshots and loses all drafts.
///
/// This is a handle; clones share the snapshots, so that they outlive a crashed replica.
#[derive(Clone, Debug, Default)]
pub struct FaultySnapshots {
    disk: Arc<Mutex<MemorySnapshots>>,
    damaged: Arc<Mutex<Vec<SnapshotKey>>>,
}

impl FaultySnapshots {
    /// Creates a store without snapshots.
    pub fn new() -> Self {
        Self::default()
    }

    /// Simulates a power failure: removes all drafts.
    pub fn crash(&self) {
        self.disk().forget_drafts();
    }

    /// Damages the newest snapshot. Reading it fails from then on. Returns false if there is none.
    pub fn damage(&self) -> bool {
        let newest = self.disk().complete().ok().and_then(|all| all.last().map(|s| s.key));
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).extend(newest);
        newest.is_some()
    }

    fn disk(&self) -> MutexGuard<'_, MemorySnapshots> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotStore for FaultySnapshots {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        self.disk().complete()
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.disk().begin()
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.disk().write(key, chunk, bytes)
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        self.disk().commit(key, about)
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            let what = format!("chunk {chunk} of snapshot {} does not match its checksum", key.0);
            return Err(StorageError::damaged(Path::new("a simulated store"), what));
        }
        self.disk().read(key, chunk)
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.disk().remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_leaves_what_was_committed_and_no_draft() {
        let snapshots = FaultySnapshots::new();
        let mut store = snapshots.clone();
        let (kept, lost) = (store.begin().unwrap(), store.begin().unwrap());
        for key in [kept, lost] {
            store.write(key, 0, Bytes::from_static(b"state")).unwrap();
        }
        store.commit(kept, Bytes::from_static(b"about")).unwrap();
        snapshots.crash();
        let found: Vec<_> =
            snapshots.clone().complete().unwrap().iter().map(|stored| stored.key).collect();
        assert_eq!(found, [kept]);
        assert_eq!(store.read(kept, 0).unwrap(), "state");
        assert!(store.read(lost, 0).is_err());
    }
}
