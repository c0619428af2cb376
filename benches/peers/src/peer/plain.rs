use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Held, Peer, Result, Write, stored};

/// A preallocated file, filled with zeros and written as a ring, with one `fdatasync` per write. It
/// is a limit rather than a log: it does not truncate or compact.
pub struct Plain {
    file: File,
    room: u64,
    end: u64,
}

const HEAD: usize = 12;

impl Plain {
    pub fn open(folder: &Path, room: u64) -> Result<Self> {
        let path = folder.join("plain");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let zeros = vec![0; 1 << 20];
        let mut length = file.metadata()?.len();
        while length < room {
            file.write_all_at(&zeros, length)?;
            length += zeros.len() as u64;
        }
        file.sync_all()?;
        Ok(Self { file, room, end: 0 })
    }
}

impl Peer for Plain {
    fn write(&mut self, write: &Write<'_>) -> Result<()> {
        let mut buffer = Vec::new();
        for (index, bytes) in write.append {
            let stored = stored(bytes);
            buffer.extend_from_slice(&(stored.len() as u32).to_le_bytes());
            buffer.extend_from_slice(&index.to_le_bytes());
            buffer.extend_from_slice(&stored);
        }
        if let Some(facts) = write.facts {
            buffer.extend_from_slice(&0_u32.to_le_bytes());
            buffer.extend_from_slice(&(facts.len() as u64).to_le_bytes());
            buffer.extend_from_slice(facts);
        }
        if self.end + buffer.len() as u64 > self.room {
            self.end = 0;
        }
        self.file.write_all_at(&buffer, self.end)?;
        self.file.sync_data()?;
        self.end += buffer.len() as u64;
        Ok(())
    }

    fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        let mut offset = 0;
        let mut head = [0; HEAD];
        let mut bytes = Vec::new();
        while offset + (HEAD as u64) < self.room {
            self.file.read_exact_at(&mut head, offset)?;
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let index = u64::from_le_bytes(head[4..].try_into()?);
            match (length, index) {
                (0, 0) => break,
                (0, facts) => offset += HEAD as u64 + facts,
                _ => {
                    bytes.resize(length, 0);
                    self.file.read_exact_at(&mut bytes, offset + HEAD as u64)?;
                    // New records overwrite old ones.
                    held.records -= (held.last + 1).saturating_sub(index);
                    held.last = held.last.min(index - 1);
                    // The last write may be incomplete.
                    if held.add(index, &bytes).is_err() {
                        break;
                    }
                    offset += (HEAD + length) as u64;
                }
            }
        }
        Ok(held)
    }
}
