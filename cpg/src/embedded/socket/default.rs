//! Where processes meet whose user names no path.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use rustix::process::geteuid;

use super::place::SocketError;

/// The directory of the default socket, in the user's runtime directory.
const DIRECTORY: &str = "plainsong";
const NAME: &str = "ring";

/// Returns the path at which all processes of this user meet that name none; `None` if the user
/// has no runtime directory. It depends on the environment only where the system has no directory
/// for the user, lest processes of one user miss each other.
pub(crate) fn default_path() -> Option<PathBuf> {
    Some(runtime_directory()?.join(DIRECTORY).join(NAME))
}

fn runtime_directory() -> Option<PathBuf> {
    let user = geteuid();
    if user.is_root() {
        return Some("/run".into());
    }
    let is_own = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user.as_raw())
    };
    let of_system = PathBuf::from(format!("/run/user/{}", user.as_raw()));
    let of_environment = || env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    Some(of_system)
        .filter(is_own)
        .or_else(|| of_environment().filter(|path| path.is_absolute()).filter(is_own))
}

/// Makes the directory of the default path, for this user only, if `path` is that and the
/// directory is missing. Whoever names another path makes its directory.
pub(super) fn make_directory(path: &Path) -> Result<(), SocketError> {
    let Some(directory) = path.parent().filter(|_| default_path().as_deref() == Some(path)) else {
        return Ok(());
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
            Err(SocketError::System { path: directory.to_owned(), why })
        }
        _ => Ok(()),
    }
}
