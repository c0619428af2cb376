use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{SnapshotKey, SnapshotStore, StorageError, StoredSnapshot};

/// Snapshots in memory. They are lost with the process.
#[derive(Debug, Default)]
pub struct MemorySnapshots {
    next_key: u64,
    drafts: BTreeMap<SnapshotKey, Chunks>,
    complete: Vec<(StoredSnapshot, Chunks)>,
}

type Chunks = BTreeMap<u64, Bytes>;

impl MemorySnapshots {
    /// Creates a store without snapshots.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all drafts, as opening a durable store does.
    pub fn forget_drafts(&mut self) {
        self.drafts.clear();
    }
}

impl SnapshotStore for MemorySnapshots {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        Ok(self.complete.iter().map(|(stored, _)| stored.clone()).collect())
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.next_key += 1;
        let key = SnapshotKey(self.next_key);
        self.drafts.insert(key, Chunks::new());
        Ok(key)
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        let draft = self.drafts.get_mut(&key).ok_or(StorageError::NoSnapshot { key })?;
        draft.insert(chunk, bytes);
        Ok(())
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        let chunks = self.drafts.remove(&key).ok_or(StorageError::NoSnapshot { key })?;
        self.complete.push((StoredSnapshot { key, about }, chunks));
        Ok(())
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        let complete = self.complete.iter().find(|(stored, _)| stored.key == key);
        let chunks = complete.map(|(_, chunks)| chunks).or_else(|| self.drafts.get(&key));
        let chunks = chunks.ok_or(StorageError::NoSnapshot { key })?;
        chunks.get(&chunk).cloned().ok_or(StorageError::NoChunk { key, chunk })
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.drafts.remove(&key);
        self.complete.retain(|(stored, _)| stored.key != key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Bytes = Bytes::from_static(b"one");
    const TWO: Bytes = Bytes::from_static(b"two");

    #[test]
    fn a_snapshot_counts_once_it_is_committed() {
        let mut store = MemorySnapshots::new();
        let (first, second) = (store.begin().unwrap(), store.begin().unwrap());
        assert_ne!(first, second);
        store.write(second, 1, TWO).unwrap();
        store.write(first, 0, ONE).unwrap();
        store.write(second, 0, ONE).unwrap();
        assert_eq!(store.complete(), Ok(vec![]));
        assert_eq!(store.read(second, 1), Ok(TWO), "a draft can be read");
        store.commit(second, TWO).unwrap();
        assert_eq!(store.complete(), Ok(vec![StoredSnapshot { key: second, about: TWO }]));
        assert_eq!(store.read(second, 0), Ok(ONE));
        let missing = StorageError::NoChunk { key: second, chunk: 2 };
        assert_eq!(store.read(second, 2), Err(missing));
        assert_eq!(
            store.write(second, 0, TWO),
            Err(StorageError::NoSnapshot { key: second }),
            "a complete snapshot never changes"
        );
        store.forget_drafts();
        assert_eq!(store.commit(first, ONE), Err(StorageError::NoSnapshot { key: first }));
        store.remove(second).unwrap();
        assert_eq!(store.complete(), Ok(vec![]));
        assert_eq!(store.read(second, 0), Err(StorageError::NoSnapshot { key: second }));
    }
}
