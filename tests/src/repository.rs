//! The files of the repository, for checks that read all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// Folders that are not part of the repository.
const SKIPPED: &[&str] = &[".git", "target", "out", "node_modules"];

/// Reads all files as text, by their paths in the repository.
pub(crate) fn files(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    collect(root, "", &mut files)?;
    Ok(files)
}

fn collect(root: &Path, folder: &str, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path, String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
        }
    }
    Ok(())
}
