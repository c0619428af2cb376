use std::fmt;
use std::io::Result;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::folder::Lock;

/// The file of a log, as a redb backend. A failed sync marks the replica's folder.
pub(super) struct Watched {
    pub(super) backend: FileBackend,
    pub(super) path: PathBuf,
    pub(super) lock: Arc<Lock>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.path).finish_non_exhaustive()
    }
}

type Locked<T> = std::result::Result<T, BackendError>;

impl StorageBackend for Watched {
    fn sync_data(&self) -> Result<()> {
        let synced = self.backend.sync_data();
        synced.inspect_err(|error| self.lock.mark(&self.path, &error.to_string()))
    }

    fn len(&self) -> Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.backend.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.backend.query_lock_range(start, end)
    }
}
