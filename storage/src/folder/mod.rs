//! A replica's folder: who holds it, whose it is, and what is in it.

mod lock;
mod marker;
mod private;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::{DiskLog, DiskSnapshots, StorageError};

pub(crate) use lock::Lock;
pub(crate) use private::{FILE_MODE, create_file, create_folder, create_new_file, make_private};

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
    exposed: Option<String>,
}

impl Folder {
    /// Opens the store in this folder. Where there is none yet, an empty one is formatted,
    /// and given `identity`, which it keeps for good. Whether an identity that was there
    /// before is the right one is for the caller to judge.
    ///
    /// # Rights
    ///
    /// The store can be read and written by its owner alone, whatever the umask; the rights that
    /// others have to a store that is there are taken away. A folder that was there keeps its
    /// mode.
    ///
    /// # Durability
    ///
    /// Formatting is atomic: after a crash there is a whole store, or none.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]; `InUse` when another process has it, `SyncFailedBefore` when a sync
    /// has failed since the system was started.
    pub fn open(path: impl AsRef<Path>, identity: &[u8]) -> Result<Self, StorageError> {
        let path = path.as_ref();
        private::create_folders(path).map_err(|e| StorageError::io("make the folder", path, e))?;
        let lock = Arc::new(Lock::take(path)?);
        let store = path.join(STORE);
        let there = store.try_exists().map_err(|e| StorageError::io("look into", &store, e))?;
        if !there {
            lock.watch(format(path, &store, identity))?;
        }
        let private = make_private(lock.path()).and_then(|()| make_private(&store));
        let exposed = private.err().map(|error| error.to_string());
        let identity = marker::read(&store)?;
        Ok(Self { store, identity, lock, exposed })
    }

    /// Why others than the owner may have rights to the store, if they may.
    pub fn exposed(&self) -> Option<&str> {
        self.exposed.as_deref()
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
        self.lock.watch(DiskLog::open(&self.store, Arc::clone(&self.lock)))
    }

    /// Opens the snapshots.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]; `Damaged` when one that was complete is not there. Chunks are
    /// checked when they are read.
    pub fn snapshots(&self) -> Result<DiskSnapshots, StorageError> {
        self.lock.watch(DiskSnapshots::open(&self.store, Arc::clone(&self.lock)))
    }
}

/// Makes a whole store under another name, and gives it its own when all of it is durable.
fn format(path: &Path, store: &Path, identity: &[u8]) -> Result<(), StorageError> {
    let draft = path.join(DRAFT);
    if draft.try_exists().map_err(|e| StorageError::io("look into", &draft, e))? {
        fs::remove_dir_all(&draft).map_err(|e| StorageError::io("empty", &draft, e))?;
    }
    create_folder(&draft).map_err(|e| StorageError::io("make the folder", &draft, e))?;
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
    file.sync_all().map_err(|e| StorageError::sync(path, e))
}
