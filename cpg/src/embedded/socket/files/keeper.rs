use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::ring_path::{FileId, Lock, RingPath, SocketError};
use super::roster::Roster;

/// How often the files are looked after.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks after the files of a ring while its hub lives, and puts back what has been removed, e.g.
/// by a program that cleans up directories for temporary files.
///
/// Without its socket a ring could not be found, and without the lock's name two processes could
/// be hubs. A process that starts before a file is put back does make a ring of its own. Then the
/// older hub finds another socket in the place of its own and stops, so that all meet again.
pub(in crate::embedded::socket) struct Keeper {
    ring_path: RingPath,
    lock: Lock,
    socket: FileId,
    next: Instant,
    /// The last error was reported.
    is_reported: bool,
}

/// What the hub has to do after its files were looked after.
#[derive(Debug)]
pub(in crate::embedded::socket) enum Kept {
    /// Nothing.
    AsItWas,
    /// Listen at this socket, too: the last one has lost its name.
    Anew(OwnedFd),
    /// Stop: another hub has taken the path.
    Lost,
}

impl Keeper {
    pub(in crate::embedded::socket) fn new(
        ring_path: RingPath,
        lock: Lock,
        socket: FileId,
    ) -> Self {
        Self { ring_path, lock, socket, next: Instant::now() + INTERVAL, is_reported: false }
    }

    /// When to call [`Keeper::look`] again.
    pub(in crate::embedded::socket) fn deadline(&self) -> Instant {
        self.next
    }

    /// Looks after the files, if it is time to.
    pub(in crate::embedded::socket) fn look(&mut self, now: Instant, roster: &mut Roster) -> Kept {
        if now < self.next {
            return Kept::AsItWas;
        }
        self.next = now + INTERVAL;
        match self.restore(roster) {
            Ok(kept) => {
                self.is_reported = false;
                kept
            }
            Err(error) => {
                if !self.is_reported {
                    tracing::error!("a file of the ring cannot be put back: {error}");
                }
                self.is_reported = true;
                Kept::AsItWas
            }
        }
    }

    fn restore(&mut self, roster: &mut Roster) -> Result<Kept, SocketError> {
        let path = self.ring_path.path().to_owned();
        let system = |why: io::Error| SocketError::System { path: path.clone(), why };
        let lock = self.ring_path.beside(".lock");
        if FileId::at(&lock).map_err(system)? != Some(self.lock.id) {
            // Whoever has it is about to be the hub, unless it finds our socket.
            if let Some(lock) = self.ring_path.lock()? {
                tracing::warn!(path = %path.display(), "the lock of a ring was removed: put back");
                self.lock = lock;
            }
        }
        if FileId::at(&self.ring_path.beside(".ring")).map_err(system)?.is_none() {
            tracing::warn!(path = %path.display(), "the file of a ring was removed: put back");
            roster.rewrite().map_err(system)?;
        }
        let found = FileId::at(&path).map_err(system)?;
        if found == Some(self.socket) {
            return Ok(Kept::AsItWas);
        }
        if FileId::at(&lock).map_err(system)? == Some(self.lock.id)
            && let Some((listener, socket)) = self.ring_path.listen()?
        {
            tracing::warn!(path = %path.display(), "the socket of a ring was removed: put back");
            self.socket = socket;
            return Ok(Kept::Anew(listener));
        }
        Ok(if found.is_some() { Kept::Lost } else { Kept::AsItWas })
    }
}
