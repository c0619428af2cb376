use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::ring_path::{SocketError, open_own};
use crate::Pid;
use crate::embedded::socket::{ClientId, PEERS_MAX};

/// Size of the file in bytes above which it is rewritten without obsolete lines.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Maximum number of bytes read from the file: the appended lines, and a line per possible
/// connection.
const READ_BYTES_MAX: u64 = FILE_BYTES_MAX + 64 * (PEERS_MAX as u64 + 1);

/// Maximum sequence accepted from the file, so that incrementing it cannot overflow.
const RING_MAX: u64 = u64::MAX / 2;

/// The ring's sequence and the connected clients, in a file beside the socket.
///
/// A new hub learns from it for which clients to wait, and which ring came last. The file has to
/// survive a killed process, but not a power failure, after which there are no clients; so nothing
/// is synced. Each change appends one line. A torn last line is a change that was not acknowledged.
pub(in crate::embedded::socket) struct Roster {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    ring: u64,
    clients: BTreeMap<ClientId, Pid>,
}

impl Roster {
    /// Reads the file of an earlier hub. A missing file is the same as an empty one.
    pub(in crate::embedded::socket) fn load(path: PathBuf) -> Result<Self, SocketError> {
        let mut text = Vec::new();
        match open_own(&path, OFlags::RDONLY) {
            Ok((file, _)) => {
                let read = file.take(READ_BYTES_MAX).read_to_end(&mut text);
                read.map_err(|why| SocketError::System { path: path.clone(), why })?;
            }
            Err(SocketError::System { why, .. }) if why.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut roster = Self { path, file: None, length: 0, ring: 0, clients: BTreeMap::new() };
        let text = String::from_utf8_lossy(&text);
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            roster.read(line);
        }
        Ok(roster)
    }

    fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (what, number) = (words.next(), words.next());
        let hex = number.and_then(|word| u64::from_str_radix(word, 16).ok()).map(ClientId);
        match (what, number, hex, words.next()) {
            (Some("ring"), Some(number), ..) => {
                let ring = number.parse().ok().filter(|ring| *ring <= RING_MAX);
                self.ring = ring.unwrap_or(0).max(self.ring);
            }
            (Some("+"), _, Some(id), Some(pid)) => {
                if let Ok(pid) = pid.parse()
                    && self.clients.len() < PEERS_MAX
                {
                    self.clients.insert(id, Pid(pid));
                }
            }
            (Some("-"), _, Some(id), _) => {
                self.clients.remove(&id);
            }
            _ => tracing::warn!(line, "ignoring an invalid line in the ring's file"),
        }
    }

    /// Returns the sequence of the ring.
    pub(in crate::embedded::socket) fn ring(&self) -> u64 {
        self.ring
    }

    pub(in crate::embedded::socket) fn clients(&self) -> &BTreeMap<ClientId, Pid> {
        &self.clients
    }

    /// Records a new ring, and rewrites the file.
    pub(in crate::embedded::socket) fn set_ring(&mut self, ring: u64) -> io::Result<()> {
        self.ring = ring;
        self.rewrite()
    }

    pub(in crate::embedded::socket) fn add(&mut self, id: ClientId, pid: Pid) -> io::Result<()> {
        self.clients.insert(id, pid);
        self.append(&format!("+ {:x} {pid}\n", id.0))
    }

    /// Removes a client. An error is only logged: an obsolete line costs a new hub a wait at most.
    pub(in crate::embedded::socket) fn remove(&mut self, id: ClientId) {
        if self.clients.remove(&id).is_some()
            && let Err(error) = self.append(&format!("- {:x}\n", id.0))
        {
            tracing::warn!(%error, "cannot write the ring's file");
        }
    }

    /// Removes all clients that do not match `stays`.
    pub(in crate::embedded::socket) fn retain(&mut self, stays: impl Fn(ClientId) -> bool) {
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            if !stays(id) {
                self.remove(id);
            }
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        match &mut self.file {
            Some(file) if self.length < FILE_BYTES_MAX => {
                self.length += line.len() as u64;
                file.write_all(line.as_bytes())
            }
            _ => self.rewrite(),
        }
    }

    /// Writes a new file, and renames it over the old one.
    pub(in crate::embedded::socket) fn rewrite(&mut self) -> io::Result<()> {
        let mut text = format!("ring {}\n", self.ring);
        for (id, pid) in &self.clients {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "+ {:x} {pid}", id.0);
        }
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        // A hub that was killed at this point has left it. Does not follow a symbolic link.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (mut file, _) = open_own(new.as_ref(), flags).map_err(io::Error::other)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)?;
        // Counts appended lines only, so that a large ring does not rewrite at every change.
        self.length = 0;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_new_hub_reads_the_roster_of_the_last_one() {
        let path = std::env::temp_dir().join(format!("cpg-roster-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut roster = Roster::load(path.clone()).unwrap();
        assert_eq!((roster.ring(), roster.clients().len()), (0, 0));
        roster.set_ring(4).unwrap();
        for id in 1..=5_000 {
            roster.add(ClientId(id), Pid(9)).unwrap();
            if id > 3 {
                roster.remove(ClientId(id));
            }
        }
        roster.remove(ClientId(2));
        assert!(fs::metadata(&path).unwrap().len() <= FILE_BYTES_MAX + 100);
        let torn = OpenOptions::new().append(true).open(&path).unwrap().write_all(b"+ 77 12");
        torn.unwrap();
        let roster = Roster::load(path.clone()).unwrap();
        assert_eq!(roster.ring(), 4);
        assert_eq!(
            roster.clients().keys().copied().collect::<Vec<_>>(),
            [ClientId(1), ClientId(3)]
        );
        fs::remove_file(&path).unwrap();
    }
}
