//! Creates and removes the Unix sockets on which a server listens.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::geteuid;
use tokio::net::UnixListener;

use crate::ListenError;

/// Maximum number of connections that wait to be accepted.
const WAITING_MAX: i32 = 1024;
/// Maximum length of the path of a Unix socket in bytes (`sun_path`, less the final NUL).
const PATH_BYTES_MAX: usize = 107;
/// Maximum number of sockets of dead processes that are removed at once.
const STALE_MAX: usize = 1000;
/// Prefix of the file names of control sockets.
const CONTROL: &str = "control-";

/// Sockets that this process has created, by path.
static MADE: Mutex<BTreeMap<PathBuf, FileId>> = Mutex::new(BTreeMap::new());

/// Identity of a file, independent of its name: device and inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Listens on a path, for this user only (mode 0600). Replaces a socket left behind by a dead
/// process of this user. Anything else at the path is kept, and is an error.
pub(crate) fn listen_at(path: &Path) -> Result<UnixListener, ListenError> {
    let length = path.as_os_str().len();
    if length > PATH_BYTES_MAX {
        return Err(ListenError::TooLong { path: path.into(), length, limit: PATH_BYTES_MAX });
    }
    let failed = |why: io::Error| ListenError::Unix { path: path.into(), why };
    match fs::symlink_metadata(path) {
        Ok(found) => {
            check(path, &found)?;
            if !is_dead(path).map_err(failed)? {
                return Err(ListenError::Taken(path.into()));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(failed(why)),
    }
    match make(path) {
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => Err(ListenError::Taken(path.into())),
        made => made.map_err(failed),
    }
}

/// Listens on a control socket in the private directory of this user. `number` makes its name
/// unique within this process.
pub(crate) fn listen_for_operators(number: u16) -> Result<(UnixListener, PathBuf), ListenError> {
    let directory = cpg::embedded::private_directory().map_err(ListenError::NoPlace)?;
    remove_stale(&directory);
    let path = directory.join(format!("{CONTROL}{}-{number}.sock", std::process::id()));
    Ok((listen_at(&path)?, path))
}

/// Returns true if the path is one that [`listen_for_operators`] creates.
pub(crate) fn is_control(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(CONTROL))
}

/// Removes the socket at `path`, or all sockets if it is `None`. Removes only sockets that this
/// process has created and that have not been replaced since.
pub(crate) fn remove(path: Option<&Path>) {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.retain(|own, id| {
        let is_meant = path.is_none_or(|path| path == own);
        if is_meant && fs::symlink_metadata(own).is_ok_and(|found| FileId::of(&found) == *id) {
            // If this fails, the next server replaces the socket.
            let _ = fs::remove_file(own);
        }
        !is_meant
    });
}

/// Checks that the file may be replaced: it must be a socket of this user.
fn check(path: &Path, found: &Metadata) -> Result<(), ListenError> {
    if !found.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.into()));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(ListenError::Foreign { path: path.into(), owner: found.uid() });
    }
    Ok(())
}

/// Returns true if no process listens on the socket.
fn is_dead(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // Includes sockets of another type and busy listeners.
        _ => Ok(false),
    }
}

fn make(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Set before the socket has a name, so that it never has wider permissions, whatever the umask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, WAITING_MAX)?;
    let id = FileId::of(&fs::symlink_metadata(path)?);
    MADE.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), id);
    UnixListener::from_std(StdUnixListener::from(socket))
}

/// Removes the control sockets of processes that were killed.
fn remove_stale(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()).take(STALE_MAX) {
        let is_own = || fs::symlink_metadata(&path).is_ok_and(|found| check(&path, &found).is_ok());
        if is_control(&path) && is_own() && is_dead(&path).unwrap_or(false) {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn only_a_socket_of_a_dead_process_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen_at(&path), Err(ListenError::NoSocket(_))));
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(listen_at(&link), Err(ListenError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert!(matches!(listen_at(directory.path()), Err(ListenError::NoSocket(_))));

        fs::remove_file(&path).unwrap();
        drop(StdUnixListener::bind(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let listener = listen_at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(listen_at(&path), Err(ListenError::Taken(_))));
        // A symbolic link to a live socket does not count as a socket.
        let link = directory.path().join("alive");
        symlink(&path, &link).unwrap();
        assert!(matches!(listen_at(&link), Err(ListenError::NoSocket(_))));
        drop(listener);
    }

    #[tokio::test]
    async fn only_sockets_of_this_process_are_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["kept", "replaced", "removed"].map(|name| directory.path().join(name));
        let [kept, replaced, removed] = &paths;
        let _listeners = [listen_at(replaced).unwrap(), listen_at(removed).unwrap()];
        fs::remove_file(replaced).unwrap();
        for path in [kept, replaced] {
            fs::write(path, "precious").unwrap();
        }
        paths.iter().for_each(|path| remove(Some(path)));
        assert!(kept.exists() && replaced.exists() && !removed.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_rejected_with_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(120));
        let why = listen_at(&path).unwrap_err().to_string();
        assert!(why.contains(&path.display().to_string()) && why.contains("107"), "{why}");
    }
}
