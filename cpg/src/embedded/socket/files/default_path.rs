//! Default path of a ring, for users that give none.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use rustix::process::geteuid;

use super::ring_path::SocketError;

/// The directory of the default socket, in the user's runtime directory.
const DIRECTORY: &str = "plainsong";
const NAME: &str = "ring";

/// Returns the default path of the rings of this user; `None` if the user has no runtime directory.
/// The environment is used only if the system has no directory for the user, so that all processes
/// of a user find the same path.
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

/// Returns this user's private directory, which contains the default ring, and creates it if
/// necessary: `/run/plainsong` for root, and `/run/user/UID/plainsong` for other users.
///
/// # Errors
///
/// The user has no runtime directory, or the directory belongs to or is accessible by other users.
pub fn private_directory() -> io::Result<PathBuf> {
    let runtime = runtime_directory().ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "this user has no directory in /run/user")
    })?;
    let directory = runtime.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        let what =
            format!("{} must be a directory that only this user can access", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(directory)
}

/// Creates the directory of the default path if `path` is the default path. The directory of any
/// other path must exist.
pub(in crate::embedded::socket) fn make_directory(path: &Path) -> Result<(), SocketError> {
    if default_path().as_deref() != Some(path) {
        return Ok(());
    }
    let made = private_directory().map(drop);
    made.map_err(|why| SocketError::System { path: path.to_owned(), why })
}
