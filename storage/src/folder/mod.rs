//! A replica's folder: who holds it, whose it is, and what is in it.

mod lock;
mod marker;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::{DiskLog, DiskSnapshots, StorageError};

pub(crate) use lock::Lock;

const STORE: &str = "store";
const DRAFT: &str = "store.new";

/// The folder that holds the durable store of one replica, held by one process at a time,
/// as long as this or any store opened from it lives.
#[derive(Debug)]
pub struct Folder {
    /// Where the stores are.
    store: PathBuf,
    identity: Bytes,
    lock: Arc<Lock>,
}

impl Folder {
    /// Opens the store in this folder. Where there is none yet, an empty one is formatted,
    /// and given `identity`, which it keeps for good. Whether an identity that was there
    /// before is the right one is for the caller to judge.
    ///
    /// # Durability
    ///
    /// Formatting is atomic: after a crash there is a whole store, or none.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]; `InUse` when another process has it.
    pub fn open(path: impl AsRef<Path>, identity: &[u8]) -> Result<Self, StorageError> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(|e| StorageError::io("make the folder", path, e))?;
        let lock = Arc::new(Lock::take(path)?);
        let store = path.join(STORE);
        let there = store.try_exists().map_err(|e| StorageError::io("look into", &store, e))?;
        if !there {
            format(path, &store, identity)?;
        }
        let identity = marker::read(&store)?;
        Ok(Self { store, identity, lock })
    }

    /// What the store was given when it was formatted.
    pub fn identity(&self) -> &Bytes {
        &self.identity
    }

    /// Opens the log.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]; `Damaged` when anything in it is not what was written.
    pub fn log(&self) -> Result<DiskLog, StorageError> {
        DiskLog::open(&self.store, Arc::clone(&self.lock))
    }

    /// Opens the snapshots.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]; `Damaged` when one that was complete is not there. Chunks are
    /// checked when they are read.
    pub fn snapshots(&self) -> Result<DiskSnapshots, StorageError> {
        DiskSnapshots::open(&self.store, Arc::clone(&self.lock))
    }
}

/// Makes a whole store under another name, and gives it its own when all of it is durable.
fn format(path: &Path, store: &Path, identity: &[u8]) -> Result<(), StorageError> {
    let draft = path.join(DRAFT);
    if draft.try_exists().map_err(|e| StorageError::io("look into", &draft, e))? {
        fs::remove_dir_all(&draft).map_err(|e| StorageError::io("empty", &draft, e))?;
    }
    fs::create_dir(&draft).map_err(|e| StorageError::io("make the folder", &draft, e))?;
    marker::write(&draft, identity)?;
    DiskLog::format(&draft)?;
    DiskSnapshots::format(&draft)?;
    sync_folder(&draft)?;
    fs::rename(&draft, store).map_err(|e| StorageError::io("give its name to", store, e))?;
    sync_folder(path)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    sync_file(path)
}

/// Makes durable what was written to a file, by whomever.
pub(crate) fn sync_file(path: &Path) -> Result<(), StorageError> {
    let file = File::open(path).map_err(|e| StorageError::io("open", path, e))?;
    file.sync_all().map_err(|e| StorageError::io("sync", path, e))
}
