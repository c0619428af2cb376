//! The durable snapshots: chunks in sled, and an index beside it that says which are complete.

mod index;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::folder::{Lock, sync_file, sync_folder};
use crate::{SnapshotKey, SnapshotStore, StorageError, StoredSnapshot};
use index::{Complete, Index};

/// What a fuzzer feeds.
#[cfg(fuzzing)]
pub(crate) use index::fuzz;

const NAME: &str = "snapshots";
const CACHE_BYTES: u64 = 16 << 20;
const CHECKSUM: usize = 4;
/// Bytes of a chunk in a row. sled gives up the memory of a row only after 64 more have been
/// looked at in its part of the cache, of which there are 256: so the memory that it takes,
/// whatever its cache may hold, is some 16,384 rows.
const ROW_BYTES: usize = 4096;
/// Rows that a removal takes away at once. Those of a large snapshot would hold up whoever waits
/// for a chunk of another; the others go one by one with what is written later.
const ROWS_REMOVED_AT_ONCE: usize = 1024;
/// For each row written, so that what is removed is gone before as much is written anew.
const ROWS_REMOVED_PER_ROW: usize = 2;

/// The snapshots on disk.
///
/// Each has a tree of its own in sled, with some rows for each chunk. On Linux sled's `flush`
/// ends in `sync_file_range`, which survives a killed process and not a power cut; so a
/// commit `fsync`s every file and folder of sled's after it, and only then the index names
/// the snapshot, by an atomic rename. What the index does not name is a draft, and is taken
/// away when the store is opened.
#[derive(Debug)]
pub struct DiskSnapshots {
    path: PathBuf,
    database: sled::Db,
    index: Index,
    drafts: BTreeMap<SnapshotKey, BTreeSet<u64>>,
    /// What was removed, and may still have rows.
    removed: VecDeque<SnapshotKey>,
    /// Why the last write failed, if it did.
    failed: Option<String>,
    /// Held as long as this store is open.
    _lock: Arc<Lock>,
}

impl DiskSnapshots {
    /// Makes an empty store; it is durable once the folder is synced too.
    pub(crate) fn format(folder: &Path) -> Result<(), StorageError> {
        let path = folder.join(NAME);
        let database = open_database(&path)?;
        guarded(&path, || database.flush())?;
        drop(database);
        sync_all(&path)?;
        Index::format(folder)
    }

    pub(crate) fn open(folder: &Path, lock: Arc<Lock>) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let index = Index::open(folder)?;
        if !path.is_dir() {
            return Err(StorageError::damaged(&path, "it is missing"));
        }
        let database = open_database(&path)?;
        let names = guarded(&path, || Ok(database.tree_names()))?;
        let complete: BTreeSet<Vec<u8>> = index.complete.iter().map(|c| name(c.key)).collect();
        if let Some(missing) = complete.iter().find(|name| !names.iter().any(|n| n == *name)) {
            let what = format!("{} is missing", String::from_utf8_lossy(missing));
            return Err(StorageError::damaged(&path, what));
        }
        for name in names {
            if name.starts_with(PREFIX) && !complete.contains(name.as_ref()) {
                remove_rows(&path, &database, &name, usize::MAX)?;
            }
        }
        let (drafts, removed) = Default::default();
        Ok(Self { path, database, index, drafts, removed, failed: None, _lock: lock })
    }

    fn tree(&self, key: SnapshotKey) -> Result<sled::Tree, StorageError> {
        guarded(&self.path, || self.database.open_tree(name(key)))
    }

    /// Writes, unless a write failed before.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Some(reason) = &self.failed {
            return Err(StorageError::Failed { reason: reason.clone() });
        }
        let changed = change(self);
        if let Err(error) = &changed {
            self.failed = Some(error.to_string());
        }
        changed
    }

    /// Takes away some rows of what was removed.
    fn clear(&mut self, rows: usize) -> Result<(), StorageError> {
        if let Some(key) = self.removed.front()
            && remove_rows(&self.path, &self.database, &name(*key), rows)?
        {
            self.removed.pop_front();
        }
        Ok(())
    }

    fn damaged(&self, key: SnapshotKey, chunk: u64, how: &str) -> StorageError {
        StorageError::damaged(&self.path, format!("chunk {chunk} of snapshot {} {how}", key.0))
    }
}

impl SnapshotStore for DiskSnapshots {
    fn complete(&mut self) -> Result<Vec<StoredSnapshot>, StorageError> {
        let complete = self.index.complete.iter();
        Ok(complete.map(|c| StoredSnapshot { key: c.key, about: c.about.clone() }).collect())
    }

    fn begin(&mut self) -> Result<SnapshotKey, StorageError> {
        self.change(|store| {
            let key = SnapshotKey(store.index.next_key);
            store.index.next_key += 1;
            store.index.write()?;
            store.tree(key)?;
            store.drafts.insert(key, BTreeSet::new());
            Ok(key)
        })
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        if !self.drafts.contains_key(&key) {
            return Err(StorageError::NoSnapshot { key });
        }
        self.change(|store| {
            let tree = store.tree(key)?;
            let sum = checksum(key, chunk, &bytes).to_le_bytes();
            let again = !store.drafts.entry(key).or_default().insert(chunk);
            let content = [&bytes[..], &sum].concat();
            let rows = content.chunks(ROW_BYTES);
            guarded(&store.path, || {
                if again {
                    let old = tree.scan_prefix(chunk.to_be_bytes()).keys();
                    old.map(|row| tree.remove(row?)).collect::<sled::Result<Vec<_>>>()?;
                }
                for (row, part) in (0_u16..).zip(rows.clone()) {
                    tree.insert(row_name(chunk, row), part)?;
                }
                Ok(())
            })?;
            store.clear(rows.len() * ROWS_REMOVED_PER_ROW)
        })
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        let written = self.drafts.get(&key).ok_or(StorageError::NoSnapshot { key })?;
        let chunks = written.len() as u64;
        self.change(|store| {
            guarded(&store.path, || store.database.flush())?;
            sync_all(&store.path)?;
            store.index.complete.push(Complete { key, chunks, about });
            store.index.write()?;
            store.drafts.remove(&key);
            Ok(())
        })
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        let complete = self.index.complete.iter().find(|complete| complete.key == key);
        if complete.is_none() && !self.drafts.contains_key(&key) {
            return Err(StorageError::NoSnapshot { key });
        }
        let tree = self.tree(key)?;
        let content = guarded(&self.path, || content(&tree, chunk))?;
        if content.is_empty() {
            return Err(match complete {
                Some(complete) if chunks_in(&self.path, &tree)? < complete.chunks => {
                    self.damaged(key, chunk, "is missing")
                }
                _ => StorageError::NoChunk { key, chunk },
            });
        }
        let mut bytes = Bytes::from(content);
        let sum = bytes.len().checked_sub(CHECKSUM).map(|length| bytes.split_off(length));
        if sum.as_deref() != Some(&checksum(key, chunk, &bytes).to_le_bytes()[..]) {
            return Err(self.damaged(key, chunk, "is not what was written"));
        }
        Ok(bytes)
    }

    fn remove(&mut self, key: SnapshotKey) -> Result<(), StorageError> {
        self.change(|store| {
            let is_draft = store.drafts.remove(&key).is_some();
            let before = store.index.complete.len();
            store.index.complete.retain(|complete| complete.key != key);
            if store.index.complete.len() < before {
                store.index.write()?;
            } else if !is_draft {
                return Ok(());
            }
            store.removed.push_back(key);
            store.clear(ROWS_REMOVED_AT_ONCE)
        })
    }
}

const PREFIX: &[u8] = b"snapshot ";

/// Of a snapshot's tree.
fn name(key: SnapshotKey) -> Vec<u8> {
    [PREFIX, key.0.to_string().as_bytes()].concat()
}

/// Of a part of a chunk: they stand in their order, one chunk behind the other.
fn row_name(chunk: u64, row: u16) -> Vec<u8> {
    [&chunk.to_be_bytes()[..], &row.to_be_bytes()].concat()
}

/// All rows of a chunk, nothing if there are none.
fn content(tree: &sled::Tree, chunk: u64) -> sled::Result<Vec<u8>> {
    let mut content = Vec::new();
    // One by one: a look at each row counts for the cache, and a walk over them does not.
    for row in 0..=u16::MAX {
        let Some(part) = tree.get(row_name(chunk, row))? else { break };
        content.extend_from_slice(&part);
        if part.len() < ROW_BYTES {
            break;
        }
    }
    if content.is_empty() {
        // As chunks were written at first.
        content.extend(tree.get(chunk.to_be_bytes())?.iter().flat_map(|whole| whole.iter()));
    }
    Ok(content)
}

/// How many chunks have any rows.
fn chunks_in(path: &Path, tree: &sled::Tree) -> Result<u64, StorageError> {
    let (mut count, mut last) = (0, None);
    for row in tree.iter().keys() {
        let row = guarded(path, || row)?;
        let chunk = row.first_chunk::<8>().copied();
        count += u64::from(chunk != last);
        last = chunk;
    }
    Ok(count)
}

/// Takes so many rows of a tree away, and the tree when it has none; whether it is gone. A tree
/// that is dropped as a whole comes into memory as a whole, and stays there for long.
fn remove_rows(
    path: &Path,
    database: &sled::Db,
    name: &[u8],
    rows: usize,
) -> Result<bool, StorageError> {
    guarded(path, || {
        let tree = database.open_tree(name)?;
        for _ in 0..rows {
            if tree.pop_min()?.is_none() {
                drop(tree);
                return database.drop_tree(name);
            }
        }
        Ok(false)
    })
}

/// Of a chunk, and of where it belongs.
fn checksum(key: SnapshotKey, chunk: u64, bytes: &[u8]) -> u32 {
    let place = [key.0.to_le_bytes(), chunk.to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
}

fn open_database(path: &Path) -> Result<sled::Db, StorageError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    guarded(path, || config.open())
}

/// Calls sled, which panics where it finds things that it believes cannot be.
fn guarded<T>(path: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Io(e))) => Err(StorageError::io("use", path, e)),
        Ok(Err(error)) => Err(StorageError::damaged(path, error.to_string())),
        Err(_) => Err(StorageError::damaged(path, "sled cannot make sense of what it found")),
    }
}

/// Makes durable every file below a folder, and every folder.
fn sync_all(folder: &Path) -> Result<(), StorageError> {
    let entries = fs::read_dir(folder).map_err(|e| StorageError::io("look into", folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| StorageError::io("look into", folder, e))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            sync_file(&path)?;
        }
    }
    sync_folder(folder)
}
