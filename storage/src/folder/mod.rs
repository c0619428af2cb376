//! A replica's folder: its lock, its identity, and the stores in it.

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

/// The folder with the durable store of one replica. One process at a time can have it open; it is
/// released when this value and all stores opened from it have been dropped.
#[derive(Debug)]
pub struct Folder {
    /// Path of the stores.
    store: PathBuf,
    identity: Bytes,
    lock: Arc<Lock>,
    exposed: Option<String>,
}

impl Folder {
    /// Opens the store in this folder, or creates an empty one with this `identity`. A store keeps
    /// its first identity for good. The caller must check that [`identity`](Self::identity) is the
    /// expected one.
    ///
    /// # Permissions
    ///
    /// Only the owner can read and write the store, regardless of the umask. Permissions of other
    /// users on an existing store are removed. An existing folder keeps its mode.
    ///
    /// # Durability
    ///
    /// Creation is atomic: after a crash there is a whole store, or none.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]. In particular `InUse` if another process has the folder open, and
    /// `SyncFailedBefore` if a sync has failed since the system was started.
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

    /// Returns the reason why other users may still have access to the store; `None` if they have
    /// none.
    pub fn exposed(&self) -> Option<&str> {
        self.exposed.as_deref()
    }

    /// Returns the identity with which the store was created.
    pub fn identity(&self) -> &Bytes {
        &self.identity
    }

    /// Opens the log.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]. In particular `Damaged` if any content does not match its checksum.
    pub fn log(&self) -> Result<DiskLog, StorageError> {
        self.lock.watch(DiskLog::open(&self.store, Arc::clone(&self.lock)))
    }

    /// Opens the snapshots.
    ///
    /// # Errors
    ///
    /// See [`StorageError`]. In particular `Damaged` if a complete snapshot is missing. Chunks are
    /// checked when they are read.
    pub fn snapshots(&self) -> Result<DiskSnapshots, StorageError> {
        self.lock.watch(DiskSnapshots::open(&self.store, Arc::clone(&self.lock)))
    }
}

/// Creates a whole store under a temporary name, and renames it once all of it is durable.
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

/// Makes the file names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    sync_file(path)
}

/// Makes the content of a file durable, including writes through other descriptors.
pub(crate) fn sync_file(path: &Path) -> Result<(), StorageError> {
    let file = File::open(path).map_err(|e| StorageError::io("open", path, e))?;
    file.sync_all().map_err(|e| StorageError::sync(path, e))
}
