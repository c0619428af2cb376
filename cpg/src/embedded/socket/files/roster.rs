use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::ring_path::{SocketError, open_own};
use crate::Pid;
use crate::embedded::socket::{ClientId, PEERS_MAX};

/// Above this size, in bytes, the file is written anew with what still counts.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Maximum number of bytes that are read of it: what is appended, and a line for each connection
/// there can be.
const READ_BYTES_MAX: u64 = FILE_BYTES_MAX + 64 * (PEERS_MAX as u64 + 1);

/// The greatest sequence that a file may name; beyond it rings could not be counted on.
const RING_MAX: u64 = u64::MAX / 2;

/// The ring's sequence and who is connected, in a file beside the socket.
///
/// A hub that takes over learns from it for whom to wait, and which rings there were. It
/// has to outlive a killed process, not a power cut: after one there are no clients. So
/// nothing is synced. One line a change, appended; a torn last line is a change that
/// nobody was told of.
pub(in crate::embedded::socket) struct Roster {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    ring: u64,
    clients: BTreeMap<ClientId, Pid>,
}

impl Roster {
    /// Reads what an earlier hub has left; nothing is as good as an empty one.
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
            _ => tracing::warn!(line, "a line of the ring's file makes no sense"),
        }
    }

    /// The sequence of the ring.
    pub(in crate::embedded::socket) fn ring(&self) -> u64 {
        self.ring
    }

    pub(in crate::embedded::socket) fn clients(&self) -> &BTreeMap<ClientId, Pid> {
        &self.clients
    }

    /// Writes down a new ring, and the file anew.
    pub(in crate::embedded::socket) fn set_ring(&mut self, ring: u64) -> io::Result<()> {
        self.ring = ring;
        self.rewrite()
    }

    pub(in crate::embedded::socket) fn add(&mut self, id: ClientId, pid: Pid) -> io::Result<()> {
        self.clients.insert(id, pid);
        self.append(&format!("+ {:x} {pid}\n", id.0))
    }

    /// A line too many costs a wait at most, so that an error is no reason to stop.
    pub(in crate::embedded::socket) fn remove(&mut self, id: ClientId) {
        if self.clients.remove(&id).is_some()
            && let Err(error) = self.append(&format!("- {:x}\n", id.0))
        {
            tracing::warn!(%error, "the ring's file cannot be written");
        }
    }

    /// Removes all that `stays` does not name.
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

    /// Writes the file anew, in place of what has its name.
    pub(in crate::embedded::socket) fn rewrite(&mut self) -> io::Result<()> {
        let mut text = format!("ring {}\n", self.ring);
        for (id, pid) in &self.clients {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "+ {:x} {pid}", id.0);
        }
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        // What a hub has left that was killed here; never what a symbolic link leads to.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (mut file, _) = open_own(new.as_ref(), flags).map_err(io::Error::other)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)?;
        // Grows with the connections there are, lest a large ring rewrites at each change.
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
    fn the_next_hub_reads_what_the_last_one_wrote() {
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
