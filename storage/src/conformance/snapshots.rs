use bytes::Bytes;

use super::Draw;
use crate::{SnapshotStore, StorageError, StoredSnapshot};

/// Opens snapshot stores of the implementation under test.
pub trait Snapshots {
    /// Type of the stores.
    type Store: SnapshotStore;

    /// Creates a store without snapshots; another one at each call.
    fn empty(&mut self) -> Self::Store;

    /// Closes the store, and opens it again, which removes the drafts.
    fn reopen(&mut self, store: Self::Store) -> Self::Store;
}

const ONE: Bytes = Bytes::from_static(b"one");
const TWO: Bytes = Bytes::from_static(b"two");

/// Runs every case.
pub fn check_snapshots(snapshots: &mut impl Snapshots) {
    a_snapshot_is_complete_once_committed(snapshots);
    a_restart_removes_drafts(snapshots);
    a_removed_snapshot_does_not_exist(snapshots);
    chunks_are_read_as_written(snapshots);
}

fn a_snapshot_is_complete_once_committed(snapshots: &mut impl Snapshots) {
    let mut store = snapshots.empty();
    assert_eq!(store.complete(), Ok(vec![]));
    let (first, second) = (store.begin().unwrap(), store.begin().unwrap());
    assert_ne!(first, second);
    store.write(second, 1, TWO).unwrap();
    store.write(first, 0, ONE).unwrap();
    store.write(second, 0, TWO).unwrap();
    store.write(second, 0, ONE).unwrap();
    assert_eq!(store.complete(), Ok(vec![]));
    assert_eq!(store.read(second, 1), Ok(TWO), "a draft can be read");
    store.commit(second, TWO).unwrap();
    assert_eq!(store.complete(), Ok(vec![StoredSnapshot { key: second, about: TWO }]));
    assert_eq!(store.write(second, 0, TWO), Err(StorageError::NoSnapshot { key: second }));
    assert_eq!(store.commit(second, TWO), Err(StorageError::NoSnapshot { key: second }));
    store.commit(first, ONE).unwrap();
    let mut store = snapshots.reopen(store);
    let complete: Vec<_> = store.complete().unwrap().into_iter().map(|s| s.key).collect();
    assert_eq!(complete, [second, first], "in the order in which they were committed");
    assert_eq!(store.read(second, 0), Ok(ONE));
    assert_eq!(store.read(second, 1), Ok(TWO));
    let missing = StorageError::NoChunk { key: second, chunk: 2 };
    assert_eq!(store.read(second, 2), Err(missing));
}

fn a_restart_removes_drafts(snapshots: &mut impl Snapshots) {
    let mut store = snapshots.empty();
    let (draft, kept) = (store.begin().unwrap(), store.begin().unwrap());
    store.write(draft, 0, ONE).unwrap();
    store.commit(kept, ONE).unwrap();
    let mut store = snapshots.reopen(store);
    let gone = StorageError::NoSnapshot { key: draft };
    assert_eq!(store.read(draft, 0), Err(gone.clone()));
    assert_eq!(store.write(draft, 0, ONE), Err(gone.clone()));
    assert_eq!(store.commit(draft, ONE), Err(gone));
    let next = store.begin().unwrap();
    assert_ne!(next, kept, "the key of a complete snapshot is not reused");
    store.write(next, 0, TWO).unwrap();
    store.commit(next, TWO).unwrap();
    assert_eq!(store.complete().unwrap().len(), 2);
}

fn a_removed_snapshot_does_not_exist(snapshots: &mut impl Snapshots) {
    let mut store = snapshots.empty();
    let (draft, complete) = (store.begin().unwrap(), store.begin().unwrap());
    for key in [draft, complete] {
        store.write(key, 0, ONE).unwrap();
    }
    store.commit(complete, ONE).unwrap();
    for key in [draft, complete] {
        store.remove(key).unwrap();
        store.remove(key).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(store.complete(), Ok(vec![]));
        for key in [draft, complete] {
            assert_eq!(store.read(key, 0), Err(StorageError::NoSnapshot { key }));
        }
        store = snapshots.reopen(store);
    }
}

fn chunks_are_read_as_written(snapshots: &mut impl Snapshots) {
    let mut draw = Draw::new(1);
    let mut store = snapshots.empty();
    let key = store.begin().unwrap();
    let mut chunks: Vec<(u64, Bytes)> = [0, 1, 1000, 65_536, 300_000]
        .into_iter()
        .zip(0..)
        .map(|(l, n)| (n, draw.bytes(l)))
        .collect();
    chunks.push((u64::MAX, ONE));
    for (chunk, bytes) in &chunks {
        store.write(key, *chunk, bytes.clone()).unwrap();
    }
    let about = draw.bytes(5000);
    store.commit(key, about.clone()).unwrap();
    let mut store = snapshots.reopen(store);
    assert_eq!(store.complete(), Ok(vec![StoredSnapshot { key, about }]));
    for (chunk, bytes) in chunks {
        assert_eq!(store.read(key, chunk), Ok(bytes), "chunk {chunk}");
    }
}
