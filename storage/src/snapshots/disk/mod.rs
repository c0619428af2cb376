//! The snapshots on disk: chunks in sled, and beside them an index of the complete snapshots.

mod convert;
mod index;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::folder::{Lock, create_folder, make_private, sync_file, sync_folder};
use crate::{SnapshotKey, SnapshotStore, StorageError, StoredSnapshot};
use index::{Complete, Index};

/// Decodes the input of a fuzzer.
#[cfg(fuzzing)]
pub(crate) use index::fuzz;

const NAME: &str = "snapshots";
const CACHE_BYTES: u64 = 16 << 20;
/// Time for which a closed database may stay locked.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSED_POLL: Duration = Duration::from_millis(2);
const CHECKSUM: usize = 4;
/// Maximum number of bytes of a chunk in one row: one fifteenth of the chunks that Plainsong makes.
///
/// sled's cache has 256 parts, and frees a row only after 64 other rows of its part have been
/// accessed. So it keeps some 16,384 rows in memory, whatever its configured size.
const ROW_BYTES: usize = 4100;
/// Number of chunks ahead for which empty rows are inserted before a chunk is written.
///
/// sled rewrites a leaf of its tree for every tenth inserted row, and when it splits a leaf of 17
/// rows. If all that happens while the rows are still empty, their contents are written only once.
/// A snapshot then takes 1.1 times its size on disk instead of 1.8, with a quarter of the writes.
const CHUNKS_LAID_AHEAD: u64 = 16;

/// The snapshots on disk.
///
/// Each snapshot is a sled database of its own, so that a removed one frees its space at once. A
/// chunk takes several rows. On Linux, sled's `flush` ends in `sync_file_range`, which survives a
/// killed process but not a power failure. So a commit then calls `fsync` on every file and folder
/// of the database. Only after that does the index name the snapshot, by an atomic rename.
/// Databases that the index does not name are drafts, and are removed when the store is opened.
#[derive(Debug)]
pub struct DiskSnapshots {
    path: PathBuf,
    index: Index,
    drafts: BTreeMap<SnapshotKey, Draft>,
    /// Databases of complete snapshots that have been read.
    open: BTreeMap<SnapshotKey, sled::Db>,
    /// The reason why a write failed, if one did. No further write is made.
    failed: Option<String>,
    /// Held while this store is open.
    lock: Arc<Lock>,
}

/// A snapshot being written.
#[derive(Debug)]
struct Draft {
    database: sled::Db,
    chunks: BTreeSet<u64>,
    /// Empty rows have been inserted for all chunks before this one.
    laid: u64,
}

impl DiskSnapshots {
    /// Creates an empty store. It is durable once the folder is synced, too.
    pub(crate) fn format(folder: &Path) -> Result<(), StorageError> {
        let path = folder.join(NAME);
        create_folder(&path).map_err(|e| StorageError::io("make the folder", &path, e))?;
        sync_folder(&path)?;
        Index::format(folder)
    }

    pub(crate) fn open(folder: &Path, lock: Arc<Lock>) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let index = Index::open(folder)?;
        if !path.is_dir() {
            return Err(StorageError::damaged(&path, "it is missing"));
        }
        convert::from_one_database(&path, &index)?;
        let mut missing: BTreeSet<SnapshotKey> = index.complete.iter().map(|c| c.key).collect();
        for (key, folder) in folders(&path)? {
            if !missing.remove(&key) {
                remove_folder(&folder)?;
            }
        }
        if let Some(key) = missing.first() {
            return Err(StorageError::damaged(&path, format!("snapshot {} is missing", key.0)));
        }
        let (drafts, open) = Default::default();
        Ok(Self { path, index, drafts, open, failed: None, lock })
    }

    fn database(&mut self, key: SnapshotKey) -> Result<sled::Db, StorageError> {
        if let Some(draft) = self.drafts.get(&key) {
            return Ok(draft.database.clone());
        }
        Ok(match self.open.entry(key) {
            Entry::Occupied(open) => open.get().clone(),
            Entry::Vacant(none) => none.insert(open_database(&folder_of(&self.path, key))?).clone(),
        })
    }

    /// Performs a write, unless an earlier one failed.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Some(reason) = &self.failed {
            return Err(StorageError::Failed { reason: reason.clone() });
        }
        let changed = change(self);
        let changed = self.lock.watch(changed);
        // A write to a missing snapshot has changed nothing.
        if let Err(error) = &changed
            && !matches!(error, StorageError::NoSnapshot { .. })
        {
            self.failed = Some(error.to_string());
        }
        changed
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
            let folder = folder_of(&store.path, key);
            // sled creates its files with the permissions that the umask leaves. No other user
            // can pass this folder, and the files are made private before they are synced.
            create_folder(&folder).map_err(|e| StorageError::io("make the folder", &folder, e))?;
            let database = open_database(&folder)?;
            store.drafts.insert(key, Draft { database, chunks: BTreeSet::new(), laid: 0 });
            Ok(key)
        })
    }

    fn write(&mut self, key: SnapshotKey, chunk: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.change(|store| {
            let draft = store.drafts.get_mut(&key).ok_or(StorageError::NoSnapshot { key })?;
            let sum = checksum(key, chunk, &bytes).to_le_bytes();
            let content = [&bytes[..], &sum].concat();
            let rows = content.chunks(ROW_BYTES);
            let again = !draft.chunks.insert(chunk);
            let laid = draft.lay(chunk);
            let database = &draft.database;
            guarded(&store.path, || {
                for chunk in laid {
                    for row in 0..rows.len() {
                        database.insert(row_name(chunk, row), &[])?;
                    }
                }
                if again {
                    let old = database.scan_prefix(chunk.to_be_bytes()).keys();
                    old.map(|row| database.remove(row?)).collect::<sled::Result<Vec<_>>>()?;
                }
                for (row, part) in rows.enumerate() {
                    database.insert(row_name(chunk, row), part)?;
                }
                Ok(())
            })
        })
    }

    fn commit(&mut self, key: SnapshotKey, about: Bytes) -> Result<(), StorageError> {
        self.change(|store| {
            let draft = store.drafts.remove(&key).ok_or(StorageError::NoSnapshot { key })?;
            let chunks = draft.chunks.len() as u64;
            let flushed = guarded(&store.path, || draft.database.flush())
                .and_then(|_| close(&store.path, draft.database));
            // sled panics here if the disk fails. The draft is not read any more.
            flushed.map_err(|error| match error {
                StorageError::Damaged { path, what } => StorageError::io("write", &path, what),
                error => error,
            })?;
            make_private(&folder_of(&store.path, key))?;
            sync_all(&folder_of(&store.path, key))?;
            sync_folder(&store.path)?;
            store.index.complete.push(Complete { key, chunks, about });
            store.index.write()
        })
    }

    fn read(&mut self, key: SnapshotKey, chunk: u64) -> Result<Bytes, StorageError> {
        let complete = self.index.complete.iter().find(|complete| complete.key == key);
        if complete.is_none() && !self.drafts.contains_key(&key) {
            return Err(StorageError::NoSnapshot { key });
        }
        let chunks = complete.map(|complete| complete.chunks);
        let database = self.database(key)?;
        let content = guarded(&self.path, || content(&database, chunk))?;
        if content.is_empty() {
            return Err(match chunks {
                Some(chunks) if chunks_in(&self.path, &database)? < chunks => {
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
            let draft = store.drafts.remove(&key).map(|draft| draft.database);
            let before = store.index.complete.len();
            store.index.complete.retain(|complete| complete.key != key);
            if store.index.complete.len() < before {
                store.index.write()?;
            } else if draft.is_none() {
                return Ok(());
            }
            if let Some(database) = draft.or_else(|| store.open.remove(&key)) {
                close(&store.path, database)?;
            }
            remove_folder(&folder_of(&store.path, key))
        })
    }
}

impl Draft {
    /// Returns the chunks for which empty rows are to be inserted before this one is written. There
    /// are few at first, as most snapshots are small.
    fn lay(&mut self, chunk: u64) -> Range<u64> {
        let laid = self.laid.max(chunk)..chunk.saturating_add(chunk.min(CHUNKS_LAID_AHEAD));
        self.laid = self.laid.max(laid.end);
        laid
    }
}

fn folder_of(path: &Path, key: SnapshotKey) -> PathBuf {
    path.join(key.0.to_string())
}

/// Returns the folders of all snapshots, including drafts.
fn folders(path: &Path) -> Result<Vec<(SnapshotKey, PathBuf)>, StorageError> {
    let look = |e| StorageError::io("look into", path, e);
    let mut folders = Vec::new();
    for entry in fs::read_dir(path).map_err(look)? {
        let entry = entry.map_err(look)?;
        if let Some(key) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            folders.push((SnapshotKey(key), entry.path()));
        }
    }
    Ok(folders)
}

fn remove_folder(folder: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StorageError::io("remove", folder, e)),
        _ => Ok(()),
    }
}

/// Returns the key of a row. Keys sort by chunk, then by row.
fn row_name(chunk: u64, row: usize) -> [u8; 10] {
    let mut name = [0; 10];
    name[..8].copy_from_slice(&chunk.to_be_bytes());
    name[8..].copy_from_slice(&(row as u16).to_be_bytes());
    name
}

/// Returns the concatenated rows of a chunk; empty if there are none.
fn content(database: &sled::Db, chunk: u64) -> sled::Result<Vec<u8>> {
    let mut content = Vec::new();
    // Row by row: a lookup counts as an access for the cache, and iteration does not.
    for row in 0..=usize::from(u16::MAX) {
        match database.get(row_name(chunk, row))? {
            Some(part) if !part.is_empty() => content.extend_from_slice(&part),
            _ => break,
        }
    }
    if content.is_empty() {
        // The first version of the format had one row per chunk.
        content.extend(database.get(chunk.to_be_bytes())?.iter().flat_map(|whole| whole.iter()));
    }
    Ok(content)
}

/// Returns the number of chunks with content.
fn chunks_in(path: &Path, database: &sled::Db) -> Result<u64, StorageError> {
    let (mut count, mut last) = (0, None);
    for row in database.iter() {
        let (row, part) = guarded(path, || row)?;
        if part.is_empty() {
            continue;
        }
        let chunk = row.first_chunk::<8>().copied();
        count += u64::from(chunk != last);
        last = chunk;
    }
    Ok(count)
}

/// Returns the checksum of a chunk, its number and its snapshot's key.
fn checksum(key: SnapshotKey, chunk: u64, bytes: &[u8]) -> u32 {
    let place = [key.0.to_le_bytes(), chunk.to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
}

/// Opens a database. Retries while the threads of a closed sled instance may still hold its lock.
fn open_database(path: &Path) -> Result<sled::Db, StorageError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let began = Instant::now();
    loop {
        match guarded(path, || config.open()) {
            Err(StorageError::Io { reason, .. })
                if reason.contains("could not acquire lock")
                    && began.elapsed() < CLOSED_TIMEOUT =>
            {
                thread::sleep(CLOSED_POLL);
            }
            done => return done,
        }
    }
}

/// Drops a database. sled then writes and syncs, and panics if that fails.
fn close(path: &Path, database: sled::Db) -> Result<(), StorageError> {
    guarded(path, || {
        drop(database);
        Ok(())
    })
}

/// Calls sled, which panics on content that it considers impossible. Converts a panic to an error.
fn guarded<T>(path: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Io(e))) => Err(StorageError::io("use", path, e)),
        Ok(Err(error)) => Err(StorageError::damaged(path, error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
            let what = format!("sled cannot read it ({text})");
            Err(StorageError::damaged(path, what))
        }
    }
}

/// Syncs every file and folder below a folder, and the folder itself.
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
