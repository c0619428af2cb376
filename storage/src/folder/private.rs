//! Creation of files and folders that only the owner can access, regardless of the umask. They
//! contain all values and the content of all commands.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::StorageError;

/// Mode of every file of a store.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of every folder of a store.
pub(crate) const FOLDER_MODE: u32 = 0o700;
/// Permission bits of all users except the owner.
const OTHERS: u32 = 0o077;

/// Creates a folder that does not exist.
pub(crate) fn create_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Creates a folder and its missing parents. An existing folder keeps its mode, as it may be
/// shared.
pub(crate) fn create_folders(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).recursive(true).create(path)
}

/// Creates a file, or truncates an existing one.
pub(crate) fn create_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// Creates a file that does not exist.
pub(crate) fn create_new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Removes the permissions of other users on this file or folder, and on everything in it.
pub(crate) fn make_private(path: &Path) -> Result<(), StorageError> {
    let failed = |e| StorageError::io("remove the permissions of other users on", path, e);
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    if mode & OTHERS != 0 {
        let private = fs::Permissions::from_mode(mode & 0o7777 & !OTHERS);
        fs::set_permissions(path, private).map_err(failed)?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            make_private(&entry.map_err(failed)?.path())?;
        }
    }
    Ok(())
}
