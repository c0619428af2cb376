use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::FILE_MODE;
use crate::StorageError;

const NAME: &str = "lock";
/// File with a random id that changes with each start of the system.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Prefix of a mark, followed by the boot id.
const MARK: &str = "sync failed in boot ";

/// The lock of a folder. The kernel releases it when the process ends. The file contains the
/// process id, for people, and a mark once a sync has failed.
///
/// # The mark
///
/// After a failed sync, Linux considers the pages clean. A restarted process would read from memory
/// what is not on the disk, and acknowledge it. So the store cannot be opened again until the
/// system has been restarted, which empties the page cache. The mark itself need not be durable,
/// because it only matters until then. It overwrites an existing file, so that a full disk does not
/// prevent it.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: File,
    marked: AtomicBool,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(&path).map_err(|e| StorageError::io("open", &path, e))?;
        let locked = file.try_lock();
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = text.lines().next().map(str::trim).filter(|owner| !owner.is_empty());
                let owner = owner.unwrap_or("(unknown)").to_owned();
                return Err(StorageError::InUse { path: folder.to_owned(), owner });
            }
            Err(TryLockError::Error(e)) => return Err(StorageError::io("lock", &path, e)),
        }
        read.map_err(|e| StorageError::io("read", &path, e))?;
        if let Some((boot, reason)) = mark_in(&text)
            && boot == boot_id()
        {
            let (folder, reason) = (folder.to_owned(), reason.to_owned());
            return Err(StorageError::SyncFailedBefore { path: folder, mark: path, reason });
        }
        let lock = Self { path, file, marked: AtomicBool::new(false) };
        lock.write("").map_err(|e| StorageError::io("write", &lock.path, e))?;
        Ok(lock)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the result unchanged, and marks the folder if it is a failed sync.
    pub(crate) fn watch<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Sync { path, reason }) = &result {
            self.mark(path, reason);
        }
        result
    }

    /// Records that a sync of this file or folder has failed.
    pub(crate) fn mark(&self, path: &Path, reason: &str) {
        self.marked.store(true, Ordering::Release);
        let reason = format!("{}: {reason}", path.display()).replace('\n', " ");
        // If even this fails, the file system accepts no writes at all. It must be mounted again
        // before a replica can open its store, which empties the page cache as well.
        let _ = self.write(&format!("{MARK}{}: {reason}\n", boot_id()));
    }

    /// Returns true if a sync has failed.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    fn write(&self, mark: &str) -> std::io::Result<()> {
        let text = format!("{}\n{mark}", std::process::id());
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

/// Returns the boot in which a sync failed and the reason, if the text of the file has a mark.
fn mark_in(text: &str) -> Option<(&str, &str)> {
    text.lines().find_map(|line| line.strip_prefix(MARK)?.split_once(": "))
}

/// Returns the boot id. If the system has none, all boots have the same id.
fn boot_id() -> String {
    let id = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let id = id.trim();
    if id.is_empty() { "unknown".into() } else { id.to_owned() }
}
