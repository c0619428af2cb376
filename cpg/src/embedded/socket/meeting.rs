//! How processes find the hub, or become it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::hub::Hub;
use super::roster::Roster;
use crate::{Error, Result};

/// How many connections may wait to be accepted.
const WAITING_MAX: i32 = 256;

/// The hubs of this process. A process that has a connection to its own hub keeps the hub
/// as long as the connection, whichever of its connections made it.
static HUBS: Mutex<BTreeMap<PathBuf, Weak<Hub>>> = Mutex::new(BTreeMap::new());

/// A way to a hub, and the hub itself if it is of this process.
pub(super) struct Met {
    pub(super) socket: UnixStream,
    pub(super) hub: Option<Arc<Hub>>,
}

/// Connects to the hub of `path`, or becomes it and then does. Tries until `deadline`.
pub(super) fn meet(path: &Path, deadline: Instant) -> Result<Met> {
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => {
                socket.set_nonblocking(true).map_err(|_| Error::NoResources)?;
                return Ok(Met { socket, hub: own_hub(path) });
            }
            Err(error) if is_nobody(&error) => {
                if let Some(hub) = become_hub(path)? {
                    // Held until connected, lest it stops at once.
                    let socket = UnixStream::connect(path).map_err(|error| refusal(&error))?;
                    socket.set_nonblocking(true).map_err(|_| Error::NoResources)?;
                    return Ok(Met { socket, hub: Some(hub) });
                }
            }
            Err(error) => return Err(refusal(&error)),
        }
        // Somebody else holds the lock: about to listen, or about to be gone.
        if Instant::now() >= deadline {
            return Err(Error::Library);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(16));
    }
}

fn own_hub(path: &Path) -> Option<Arc<Hub>> {
    HUBS.lock().unwrap_or_else(PoisonError::into_inner).get(path)?.upgrade()
}

/// Takes the lock, if it is free, and starts the hub.
fn become_hub(path: &Path) -> Result<Option<Arc<Hub>>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(beside(path, ".lock")).map_err(|error| refusal(&error))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        Err(error) => return Err(refusal(&error.into())),
    }
    let roster = Roster::load(beside(path, ".ring")).map_err(|error| refusal(&error))?;
    let listener = listen_at(path)?;
    let hub = Hub::start(lock, listener, roster).map_err(|error| refusal(&error))?;
    let hub = Arc::new(hub);
    let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
    hubs.retain(|_, hub| hub.strong_count() > 0);
    hubs.insert(path.to_owned(), Arc::downgrade(&hub));
    Ok(Some(hub))
}

/// Listens at `path`, in place of a socket that an earlier hub has left. The socket is made
/// beside it and moved there, so that nobody meets it with wrong permissions, whatever the
/// umask, and nothing else is ever removed.
fn listen_at(path: &Path) -> Result<OwnedFd> {
    let mode = match fs::symlink_metadata(path) {
        Ok(old) if old.file_type().is_socket() => old.permissions().mode() & 0o777,
        Ok(_) => {
            tracing::error!(path = %path.display(), "there is something that is not a socket");
            return Err(Error::InvalidParameter);
        }
        Err(_) => 0o600,
    };
    let new = beside(path, ".new");
    let _ = fs::remove_file(&new);
    let address = SocketAddrUnix::new(&new).map_err(|_| Error::InvalidParameter)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|_| Error::NoResources)?;
    bind(&listener, &address).map_err(|error| refusal(&error.into()))?;
    fs::set_permissions(&new, Permissions::from_mode(mode)).map_err(|error| refusal(&error))?;
    listen(&listener, WAITING_MAX).map_err(|error| refusal(&error.into()))?;
    fs::rename(&new, path).map_err(|error| refusal(&error))?;
    Ok(listener)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Nobody listens: there is no socket, or only what a dead hub has left.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    )
}

/// What an error of the system is to the user.
fn refusal(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::Access,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => Error::InvalidParameter,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::InvalidParameter,
        _ => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(
                rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOSPC,
            ) => Error::NoResources,
            _ => Error::Library,
        },
    }
}
