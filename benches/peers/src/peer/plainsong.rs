use std::path::Path;

use bytes::Bytes;
use plainsong_storage::{DiskLog, Folder, LogOp, LogStore, Record};

use super::{Held, Peer, Result, Write, stored};

/// The log of Plainsong: redb with a watermark.
pub struct Plainsong {
    log: DiskLog,
}

impl Plainsong {
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self { log: Folder::open(folder.join("plainsong"), b"peer")?.log()? })
    }
}

impl Peer for Plainsong {
    fn write(&mut self, write: &Write<'_>) -> Result<()> {
        let mut ops = Vec::with_capacity(write.append.len() + 3);
        ops.extend(write.facts.map(|facts| LogOp::HardState(Bytes::copy_from_slice(facts))));
        ops.extend(write.cut.map(LogOp::Truncate));
        for (index, bytes) in write.append {
            let (head, body) = (Bytes::new(), Bytes::copy_from_slice(bytes));
            ops.push(LogOp::Append(Record { index: *index, head, body }));
        }
        ops.extend(write.compact.map(LogOp::Compact));
        Ok(self.log.write(ops)?)
    }

    fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        for record in self.log.recover(0)?.records {
            held.add(record.index, &stored(&record.body))?;
        }
        Ok(held)
    }
}
