use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::guard::Guard;
use super::{Error, Result};

/// Maximum number of characters of a cluster's name in the name of its directory. Tests put sockets
/// there, and the path of a Unix socket has at most 107 bytes.
const NAME_MAX: usize = 40;

/// The directory of one cluster. It is named after its owner's process id, and locked while the
/// owner is alive.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// The kernel releases the lock when the process ends. A released lock, not the process id,
    /// shows that the owner is dead, because process ids are reused.
    _lock: File,
}

impl Home {
    /// Creates a new directory, after removing clusters whose owners are dead.
    pub(super) fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let all = parent()?;
        // Creation and cleanup both hold this lock, so cleanup never sees a new directory that is
        // not locked yet.
        let sweeping = lock(&all, FlockOperation::LockExclusive)
            .map_err(Error::system(format!("lock {}", all.display())))?;
        sweep(&all)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name: String = name.chars().take(NAME_MAX).collect();
        let path = all.join(format!("{}-{count}-{name}", std::process::id()));
        let failed = || Error::system(format!("make {}", path.display()));
        fs::create_dir(&path).map_err(failed())?;
        let held = lock(&path, FlockOperation::NonBlockingLockExclusive).map_err(failed())?;
        drop(sweeping);
        Ok(Self { path, _lock: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the directory of all clusters. Other users must not be able to write there, because root
/// removes what it contains.
fn parent() -> Result<PathBuf> {
    let path = std::env::temp_dir().join("plainsong-rig");
    let failed = || Error::system(format!("make {}", path.display()));
    match DirBuilder::new().mode(0o755).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed()(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(&path).map_err(failed())?;
    if found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0 {
        return path.canonicalize().map_err(failed());
    }
    Err(Error::Unavailable(format!(
        "{} must be a directory that only root can write",
        path.display()
    )))
}

/// Locks a file in a directory.
fn lock(directory: &Path, how: FlockOperation) -> io::Result<File> {
    let path = directory.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    flock(&file, how)?;
    Ok(file)
}

/// Removes the clusters that are not locked.
fn sweep(all: &Path) -> Result<()> {
    let failed = || Error::system(format!("look for leftovers in {}", all.display()));
    for entry in fs::read_dir(all).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if !path.is_dir() {
            continue;
        }
        match lock(&path, FlockOperation::NonBlockingLockExclusive) {
            Ok(_held) => Guard::over(&path)?.remove()?,
            // Its owner is alive.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Its own guard has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(())
}
