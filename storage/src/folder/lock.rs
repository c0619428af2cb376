use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::StorageError;

const NAME: &str = "lock";

/// That this process has the folder. The system gives it up when the process ends, however
/// it ends; what the file says is only for people.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|e| StorageError::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let said = file.read_to_string(&mut owner).is_ok() && !owner.trim().is_empty();
                let owner = if said { owner.trim().into() } else { "(unknown)".into() };
                return Err(StorageError::InUse { path: folder.to_owned(), owner });
            }
            Err(TryLockError::Error(e)) => return Err(StorageError::io("lock", &path, e)),
        }
        let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        named.map_err(|e| StorageError::io("write", &path, e))?;
        Ok(Self { _file: file })
    }
}
