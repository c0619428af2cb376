use std::fs;
use std::path::Path;

use super::{folder_of, guarded, open_database, remove_folder, sync_all};
use crate::StorageError;
use crate::folder::{create_folder, make_private, sync_folder};

use super::index::Index;

/// At first all snapshots were in one database, with a tree for each. Where that is still so, each
/// complete one gets its own. A crash meanwhile leaves the one database as it was.
pub(super) fn from_one_database(path: &Path, index: &Index) -> Result<(), StorageError> {
    let file = path.join("db");
    if !file.try_exists().map_err(|e| StorageError::io("look into", path, e))? {
        return Ok(());
    }
    let one = open_database(path)?;
    for complete in &index.complete {
        let folder = folder_of(path, complete.key);
        remove_folder(&folder)?;
        create_folder(&folder).map_err(|e| StorageError::io("make the folder", &folder, e))?;
        let own = open_database(&folder)?;
        guarded(path, || {
            for row in &one.open_tree(format!("snapshot {}", complete.key.0))? {
                let (name, part) = row?;
                own.insert(name, part)?;
            }
            own.flush()
        })?;
        make_private(&folder)?;
        sync_all(&folder)?;
    }
    sync_folder(path)?;
    drop(one);
    // What sled has beside it is nothing without it.
    fs::remove_file(&file).map_err(|e| StorageError::io("remove", &file, e))?;
    sync_folder(path)
}
