use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::ring_path::{FileId, Lock, RingPath, SocketError};
use super::roster::Roster;

/// Interval between two checks of the files.
const INTERVAL: Duration = Duration::from_secs(1);

/// Restores the files of a ring while its hub runs, in case a program that cleans up temporary
/// directories removes them.
///
/// Without its socket a ring cannot be found, and without the name of the lock file two processes
/// could become hubs. A process that starts before a file is restored does form a ring of its own.
/// Then the older hub finds another socket in place of its own and stops, so that all members meet
/// again.
pub(in crate::embedded::socket) struct Keeper {
    ring_path: RingPath,
    lock: Lock,
    socket: FileId,
    next: Instant,
    /// Set once the last error has been logged.
    is_reported: bool,
}

/// Result of a check: what the hub has to do.
#[derive(Debug)]
pub(in crate::embedded::socket) enum Kept {
    /// Nothing: the socket is in place.
    AsItWas,
    /// Listen on this socket as well: the previous one had lost its name.
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

    /// Returns the time of the next call of [`Keeper::look`].
    pub(in crate::embedded::socket) fn deadline(&self) -> Instant {
        self.next
    }

    /// Checks and restores the files, if the interval has passed.
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
                    tracing::error!("cannot restore a file of the ring: {error}");
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
            // Another process that holds it becomes the hub, unless it finds our socket.
            if let Some(lock) = self.ring_path.lock()? {
                tracing::warn!(path = %path.display(), "restored the lock file of a ring, which had been removed");
                self.lock = lock;
            }
        }
        if FileId::at(&self.ring_path.beside(".ring")).map_err(system)?.is_none() {
            tracing::warn!(path = %path.display(), "restored the roster file of a ring, which had been removed");
            roster.rewrite().map_err(system)?;
        }
        let found = FileId::at(&path).map_err(system)?;
        if found == Some(self.socket) {
            return Ok(Kept::AsItWas);
        }
        if FileId::at(&lock).map_err(system)? == Some(self.lock.id)
            && let Some((listener, socket)) = self.ring_path.listen()?
        {
            tracing::warn!(path = %path.display(), "restored the socket of a ring, which had been removed");
            self.socket = socket;
            return Ok(Kept::Anew(listener));
        }
        Ok(if found.is_some() { Kept::Lost } else { Kept::AsItWas })
    }
}
