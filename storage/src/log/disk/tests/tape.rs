use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use crate::conformance::Draw;

/// A file in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Image(Arc<Mutex<Vec<u8>>>);

impl Image {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    /// Returns the current content.
    pub(super) fn bytes_now(&self) -> Vec<u8> {
        self.bytes().clone()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }
}

impl StorageBackend for Image {
    fn len(&self) -> Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let offset = offset as usize;
        let bytes = self.bytes();
        let found = bytes.get(offset..offset + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let offset = offset as usize;
        let mut bytes = self.bytes();
        let there = bytes.get_mut(offset..offset + data.len()).ok_or(ErrorKind::UnexpectedEof)?;
        there.copy_from_slice(data);
        Ok(())
    }
}

/// An operation on a file.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Length(u64),
    Write(u64, Vec<u8>),
    Sync,
    /// The log's write with this number returned.
    Acknowledged(u64),
}

/// A file in memory that records all operations on it. Its syncs can be made to fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    image: Image,
    steps: Arc<Mutex<Vec<Step>>>,
    syncs_fail: Arc<Mutex<bool>>,
}

impl Tape {
    pub(super) fn note(&self, step: Step) {
        self.steps.lock().unwrap().push(step);
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap().clone()
    }

    pub(super) fn let_syncs_fail(&self) {
        *self.syncs_fail.lock().unwrap() = true;
    }
}

impl StorageBackend for Tape {
    fn len(&self) -> Result<u64> {
        self.image.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.image.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.note(Step::Length(len));
        self.image.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.note(Step::Sync);
        if *self.syncs_fail.lock().unwrap() {
            Err(Error::other("the disk is gone"))
        } else {
            Ok(())
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.note(Step::Write(offset, data.to_vec()));
        self.image.write(offset, data)
    }
}

const SECTOR: usize = 512;

/// Returns a possible content of the disk after a power failure at the end of these steps:
/// everything that was synced, and any sectors of the rest.
pub(super) fn crash(steps: &[Step], draw: &mut Draw) -> Vec<u8> {
    let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let mut bytes = Vec::new();
    // None, some, or all of the unsynced writes.
    let chance = draw.below(5);
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Length(length) if number < synced || draw.below(4) < chance => {
                bytes.resize(*length as usize, 0);
            }
            Step::Write(offset, data) => {
                for (sector, data) in data.chunks(SECTOR).enumerate() {
                    if number < synced || draw.below(4) < chance {
                        let from = *offset as usize + sector * SECTOR;
                        // There are no sectors past the end.
                        if let Some(there) = bytes.get_mut(from..from + data.len()) {
                            there.copy_from_slice(data);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    bytes
}
