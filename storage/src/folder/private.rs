//! Files and folders of a store are for the user alone that the replica runs as, whatever the
//! umask: they hold every value, and whatever commands had in them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::StorageError;

/// Mode of every file of a store.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of every folder of a store.
pub(crate) const FOLDER_MODE: u32 = 0o700;
/// Rights of others than the owner.
const OTHERS: u32 = 0o077;

/// Makes a folder that is not there.
pub(crate) fn create_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Makes a folder, and those above it, where they are not there. One that is there keeps its mode:
/// it may be shared with others.
pub(crate) fn create_folders(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).recursive(true).create(path)
}

/// Makes a file, or empties the one that is there.
pub(crate) fn create_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// Makes a file that must not be there.
pub(crate) fn create_new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Takes the rights of others to this file or folder away, and to all that is in it.
pub(crate) fn make_private(path: &Path) -> Result<(), StorageError> {
    let failed = |e| StorageError::io("take the rights of others to", path, e);
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
