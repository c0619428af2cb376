//! Path of a ring's socket and of the files beside it, with checks of their owners.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, open};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::geteuid;

use crate::Error;

/// Maximum number of connections waiting to be accepted.
const WAITING_MAX: i32 = 256;

/// Maximum length of the address of a Unix socket in bytes (`sun_path`, less the final NUL).
const ADDRESS_BYTES_MAX: usize = 107;

/// Maximum length of the socket's name in its directory. The socket of a longer path is reached
/// through a descriptor of the directory, as `/proc/self/fd/NUMBER/NAME`.
pub(crate) const NAME_BYTES_MAX: usize = ADDRESS_BYTES_MAX - "/proc/self/fd/2147483647/".len();

/// Mode of the files beside the socket. The sticky bit keeps systemd-tmpfiles, and any other
/// program that follows the XDG Base Directory Specification, from removing the file because of its
/// age.
const FILE_MODE: Mode = Mode::from_raw_mode(0o1600);

/// Mode of the socket.
const SOCKET_MODE: Mode = Mode::from_raw_mode(0o1600);

/// Reason why processes cannot meet at a Unix socket. The text of each error says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The path has no file name.
    #[error("{path:?} cannot be a socket: give a file name in an existing directory")]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The last component of a long path is too long for the system.
    #[error(
        "the last part of {path} has {length} bytes: the limit is {NAME_BYTES_MAX} bytes in a path \
         longer than {ADDRESS_BYTES_MAX}; choose a shorter name", path = path.display()
    )]
    NameTooLong {
        /// The path.
        path: PathBuf,
        /// The length of its last part in bytes.
        length: usize,
    },
    /// The directory does not exist, or is not a directory.
    #[error("there is no directory {directory}; create it, or choose a path in one that exists", directory = directory.display())]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// Other users can replace the ring's files.
    #[error(
        "the directory {directory} (owner {owner}, mode {mode:o}) lets other users replace the \
         ring's files: choose one that only this user can write to, e.g. in /run/user/{user}",
        directory = directory.display(), user = geteuid().as_raw()
    )]
    UnsafeDirectory {
        /// The directory.
        directory: PathBuf,
        /// Id of the user that owns the directory.
        owner: u32,
        /// Mode of the directory.
        mode: u32,
    },
    /// The path exists and is not a socket.
    #[error(
        "{path} is {what}: choose another path, or remove it if it is not needed",
        path = path.display()
    )]
    Occupied {
        /// The path.
        path: PathBuf,
        /// Kind of the file, for the message.
        what: &'static str,
    },
    /// A file of the ring belongs to another user.
    #[error(
        "{path} belongs to user {owner} and not to user {user}: choose a path in a private \
         directory, or have that user remove it", path = path.display(), user = geteuid().as_raw()
    )]
    ForeignFile {
        /// The path.
        path: PathBuf,
        /// Id of the user that owns the file.
        owner: u32,
    },
    /// The process that listens belongs to another user.
    #[error(
        "the process that listens at {path} belongs to user {owner} and not to user {user}: \
         choose a path in a private directory, or start both as the same user",
        path = path.display(), user = geteuid().as_raw()
    )]
    ForeignHub {
        /// The path.
        path: PathBuf,
        /// Id of the user of the process.
        owner: u32,
    },
    /// A system call failed.
    #[error("cannot use {path}: {why}", path = path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// The error of the system call.
        why: io::Error,
    },
}

impl SocketError {
    /// Returns the corresponding error of CPG.
    pub fn general(&self) -> Error {
        match self {
            Self::NoName { .. }
            | Self::NameTooLong { .. }
            | Self::NoDirectory { .. }
            | Self::Occupied { .. } => Error::InvalidParameter,
            Self::UnsafeDirectory { .. } | Self::ForeignFile { .. } | Self::ForeignHub { .. } => {
                Error::Security
            }
            Self::System { why, .. } => match why.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Error::Access
                }
                io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory => Error::InvalidParameter,
                _ => match why.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM) => {
                        Error::NoResources
                    }
                    _ => Error::Library,
                },
            },
        }
    }
}

/// Path at which the processes of a ring meet: a socket in a directory whose files no other user
/// can replace.
#[derive(Clone, Debug)]
pub(in crate::embedded::socket) struct RingPath {
    /// Absolute, and without symbolic links up to the name.
    path: PathBuf,
}

/// Identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded::socket) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Returns the identity of the file with this name, without following a symbolic link; `None`
    /// if there is none.
    pub(in crate::embedded::socket) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Result of an attempt to reach the hub.
pub(in crate::embedded::socket) enum Reached {
    /// A process of the same user listens.
    Hub(UnixStream),
    /// No process listens: there is no socket, or a dead hub has left it.
    Nobody,
    /// A process listens, but its queue of connections to accept is full.
    Busy,
}

/// The hub's lock. The kernel releases it when the process ends.
#[derive(Debug)]
pub(in crate::embedded::socket) struct Lock {
    _file: File,
    pub(in crate::embedded::socket) id: FileId,
}

impl RingPath {
    /// Resolves the path, and checks that no other user can replace its files.
    pub(in crate::embedded::socket) fn open(path: &Path) -> Result<Self, SocketError> {
        let no_name = || SocketError::NoName { path: path.to_owned() };
        let name = path.file_name().ok_or_else(no_name)?;
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(no_name());
        }
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(no_name()),
        };
        let directory = fs::canonicalize(parent).map_err(|why| match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                SocketError::NoDirectory { directory: parent.to_owned() }
            }
            _ => system(parent)(why),
        })?;
        check_directory(&directory)?;
        let (path, length) = (directory.join(name), name.len());
        if path.as_os_str().len() > ADDRESS_BYTES_MAX && length > NAME_BYTES_MAX {
            return Err(SocketError::NameTooLong { path, length });
        }
        Ok(Self { path })
    }

    pub(in crate::embedded::socket) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file beside the socket.
    pub(in crate::embedded::socket) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        name.into()
    }

    /// Looks for everything that keeps processes from meeting here. Changes nothing.
    pub(in crate::embedded::socket) fn check(&self) -> Result<(), SocketError> {
        for suffix in [".lock", ".ring"] {
            let path = self.beside(suffix);
            match fs::symlink_metadata(&path) {
                Ok(metadata) => check_file(&path, &metadata)?,
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => return Err(system(&path)(why)),
            }
        }
        self.reach().map(drop)
    }

    /// Connects to the hub, if there is one, and checks that it is a process of this user.
    pub(in crate::embedded::socket) fn reach(&self) -> Result<Reached, SocketError> {
        // A symbolic link could lead into another ring.
        if !self.has_socket()? {
            return Ok(Reached::Nobody);
        }
        let (address, _directory) = self.address()?;
        let socket = socket()?;
        match connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::INTR) => return Ok(Reached::Nobody),
            Err(Errno::PROTOTYPE) => {
                let what = "a socket of another kind";
                return Err(SocketError::Occupied { path: self.path.clone(), what });
            }
            Err(Errno::AGAIN) => return Ok(Reached::Busy),
            Err(why) => return Err(system(&self.path)(why.into())),
        }
        match uid_of(&socket) {
            Ok(owner) if owner == geteuid().as_raw() => Ok(Reached::Hub(UnixStream::from(socket))),
            Ok(owner) => Err(SocketError::ForeignHub { path: self.path.clone(), owner }),
            Err(why) => Err(system(&self.path)(why.into())),
        }
    }

    /// Takes the lock; `None` if another process holds it.
    pub(in crate::embedded::socket) fn lock(&self) -> Result<Option<Lock>, SocketError> {
        let path = self.beside(".lock");
        let flags = OFlags::RDWR | OFlags::CREATE;
        let (file, metadata) = open_own(&path, flags)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(why) => return Err(system(&path)(why.into())),
        }
        // A lock on a file without a name excludes no other process.
        let id = FileId::of(&metadata);
        let named = FileId::at(&path).map_err(system(&path))?;
        Ok((named == Some(id)).then_some(Lock { _file: file, id }))
    }

    /// Listens at the path. Replaces a socket that a dead hub of this user has left, and removes
    /// nothing else. Returns `None` if another process listens. The caller holds the lock.
    ///
    /// The socket is bound under its final name rather than renamed, so that the kernel lists it
    /// under the name that it has.
    pub(in crate::embedded::socket) fn listen(
        &self,
    ) -> Result<Option<(OwnedFd, FileId)>, SocketError> {
        if self.has_socket()? {
            match self.reach()? {
                Reached::Nobody => {}
                Reached::Hub(_) | Reached::Busy => return Ok(None),
            }
            match fs::remove_file(&self.path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    return Err(system(&self.path)(why));
                }
                _ => {}
            }
        }
        let (address, _directory) = self.address()?;
        let listener = socket()?;
        let system = system(&self.path);
        // Before the socket has a name: no process can open it with wrong permissions, even with
        // an open umask.
        fchmod(&listener, SOCKET_MODE).map_err(|why| system(why.into()))?;
        match bind(&listener, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Ok(None),
            Err(why) => return Err(system(why.into())),
        }
        listen(&listener, WAITING_MAX).map_err(|why| system(why.into()))?;
        let id = FileId::at(&self.path).map_err(system)?;
        Ok(id.map(|id| (listener, id)))
    }

    /// Returns true if there is a socket of this user, and an error if there is any other file.
    fn has_socket(&self) -> Result<bool, SocketError> {
        let path = self.path.clone();
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(why) => return Err(system(&path)(why)),
        };
        if !metadata.file_type().is_socket() {
            return Err(SocketError::Occupied { path, what: kind(&metadata) });
        }
        if metadata.uid() != geteuid().as_raw() {
            return Err(SocketError::ForeignFile { path, owner: metadata.uid() });
        }
        Ok(true)
    }

    /// Returns the socket's address, and the descriptor of the directory if the address refers to
    /// it.
    fn address(&self) -> Result<(SocketAddrUnix, Option<OwnedFd>), SocketError> {
        let system = system(&self.path);
        if self.path.as_os_str().len() <= ADDRESS_BYTES_MAX {
            let address = SocketAddrUnix::new(&self.path).map_err(|why| system(why.into()))?;
            return Ok((address, None));
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory, flags, Mode::empty()).map_err(|why| system(why.into()))?;
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        let address = SocketAddrUnix::new(&path).map_err(|why| system(why.into()))?;
        Ok((address, Some(directory)))
    }
}

/// Opens a file of the ring, which must be a regular file of this user and not a symbolic link.
pub(in crate::embedded::socket) fn open_own(
    path: &Path,
    flags: OFlags,
) -> Result<(File, Metadata), SocketError> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match open(path, flags, FILE_MODE) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => {
            let what = "a symbolic link";
            return Err(SocketError::Occupied { path: path.to_owned(), what });
        }
        Err(why) => return Err(system(path)(why.into())),
    };
    let metadata = file.metadata().map_err(system(path))?;
    check_file(path, &metadata)?;
    Ok((file, metadata))
}

fn check_file(path: &Path, metadata: &Metadata) -> Result<(), SocketError> {
    if !metadata.is_file() {
        return Err(SocketError::Occupied { path: path.to_owned(), what: kind(metadata) });
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(SocketError::ForeignFile { path: path.to_owned(), owner: metadata.uid() });
    }
    Ok(())
}

/// Rejects a directory in which another user can replace files. The owner of a directory always
/// can, and so can every user that may write to it unless it is sticky. (Root can do anything.)
fn check_directory(directory: &Path) -> Result<(), SocketError> {
    let metadata = fs::metadata(directory).map_err(system(directory))?;
    if !metadata.is_dir() {
        return Err(SocketError::NoDirectory { directory: directory.to_owned() });
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let is_sticky = mode & 0o1000 != 0;
    if ![0, geteuid().as_raw()].contains(&owner) || mode & 0o002 != 0 && !is_sticky {
        return Err(SocketError::UnsafeDirectory { directory: directory.to_owned(), owner, mode });
    }
    Ok(())
}

/// Returns the user id of the process at the other end.
pub(in crate::embedded::socket) fn uid_of(socket: &OwnedFd) -> Result<u32, Errno> {
    Ok(socket_peercred(socket)?.uid.as_raw())
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_dir() => "a directory",
        () if kind.is_file() => "an ordinary file",
        () => "not a socket",
    }
}

fn socket() -> Result<OwnedFd, SocketError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    socket.map_err(|why| system(Path::new("a Unix socket"))(why.into()))
}

fn system(path: &Path) -> impl Fn(io::Error) -> SocketError + Copy + '_ {
    move |why| SocketError::System { path: path.to_owned(), why }
}
