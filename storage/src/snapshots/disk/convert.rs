use std::fs;
use std::path::Path;

use super::{folder_of, guarded, open_database, remove_folder, sync_all};
use crate::StorageError;
use crate::folder::{create_folder, make_private, sync_folder};

use super::index::Index;

/// Converts a store of the first version, which had a single database with a tree per snapshot, to
/// one database per snapshot. A crash in between leaves the single database in place.
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
    // Without it, the other files of that database have no effect.
    fs::remove_file(&file).map_err(|e| StorageError::io("remove", &file, e))?;
    sync_folder(path)
}
