use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use plainsong_storage::{SnapshotKey, SnapshotStore, StorageError};
use xxhash_rust::xxh3::Xxh3;

use super::{SnapshotCommand, SnapshotEvent, SnapshotHead, SnapshotName, SnapshotReader};
use crate::wire::codec;
use crate::wire::types::Digest;

/// An error of a [`SnapshotManager`]. Any stops the replica.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The store failed.
    #[error("the snapshot store failed: {0}")]
    Store(#[from] StorageError),
    /// A complete snapshot cannot be read: it is damaged.
    #[error("{name} cannot be read: {reason}")]
    Damaged {
        /// The name of the snapshot.
        name: SnapshotName,
        /// The reason.
        reason: String,
    },
    /// The name of a stored snapshot cannot be encoded or decoded.
    #[error("the store holds a snapshot with an unreadable name: {0}")]
    Nameless(String),
    /// The store does not hold this snapshot.
    #[error("{0} is not in the store")]
    Unknown(SnapshotName),
}

/// Manages the snapshots in the store of a replica: the complete ones, by name, and up to two
/// drafts, one being received from a peer and one being written from the replica's own state.
///
/// Blocks for the disk. The snapshot thread owns it.
pub struct SnapshotManager {
    store: Box<dyn SnapshotStore>,
    complete: BTreeMap<SnapshotName, SnapshotKey>,
    receiving: Option<Receiving>,
    /// The draft of the replica's own state, and the number of its next chunk.
    taking: Option<(SnapshotKey, u64)>,
}

/// A snapshot being received from a peer.
struct Receiving {
    name: SnapshotName,
    key: SnapshotKey,
    /// Hash of the first `hashed` chunks.
    digest: Box<Xxh3>,
    hashed: u64,
}

impl SnapshotManager {
    /// Creates a manager of a store that was just opened.
    ///
    /// # Errors
    ///
    /// Fails if the store fails, or if the name of a stored snapshot does not decode.
    pub fn open(mut store: Box<dyn SnapshotStore>) -> Result<Self, SnapshotError> {
        let mut complete = BTreeMap::new();
        for stored in store.complete()? {
            let name = codec::decode(&stored.about)
                .map_err(|error| SnapshotError::Nameless(error.to_string()))?;
            complete.insert(name, stored.key);
        }
        Ok(Self { store, complete, receiving: None, taking: None })
    }

    /// Returns the names of the complete snapshots, the newest last.
    pub fn names(&self) -> Vec<SnapshotName> {
        self.complete.keys().copied().collect()
    }

    /// Reads the head of a complete snapshot: the state of the protocol at its position.
    ///
    /// # Errors
    ///
    /// Fails if there is no such snapshot or it cannot be read.
    pub fn head(&mut self, name: SnapshotName) -> Result<SnapshotHead, SnapshotError> {
        let key = *self.complete.get(&name).ok_or(SnapshotError::Unknown(name))?;
        self.head_of(name, key)
            .map_err(|error| SnapshotError::Damaged { name, reason: error.to_string() })
    }

    fn head_of(&mut self, name: SnapshotName, key: SnapshotKey) -> io::Result<SnapshotHead> {
        let store = &mut self.store;
        let source = |chunk| store.read(key, chunk).map_err(io::Error::other);
        Ok(SnapshotReader::open(name, source)?.0)
    }

    /// Reads a chunk of a complete snapshot.
    ///
    /// # Errors
    ///
    /// Fails if there is no such snapshot or the chunk cannot be read.
    pub fn read(&mut self, name: SnapshotName, chunk: u64) -> Result<Bytes, SnapshotError> {
        let key = *self.complete.get(&name).ok_or(SnapshotError::Unknown(name))?;
        Ok(self.store.read(key, chunk)?)
    }

    /// Carries out a command of the engine. Returns the event to report to it, if there is one.
    ///
    /// # Errors
    ///
    /// Fails if the store fails. Then the replica must stop.
    pub fn carry_out(
        &mut self,
        command: SnapshotCommand,
    ) -> Result<Option<SnapshotEvent>, SnapshotError> {
        match command {
            SnapshotCommand::Read { name, chunk } => {
                let bytes = self.read(name, chunk)?;
                Ok(Some(SnapshotEvent::Read { name, chunk, bytes }))
            }
            SnapshotCommand::Write { name, chunk, bytes } => {
                self.write(name, chunk, bytes)?;
                Ok(Some(SnapshotEvent::Written { name, chunk }))
            }
            SnapshotCommand::Finish(name) => self.finish(name).map(Some),
            SnapshotCommand::Abandon(name) => {
                if let Some(dropped) = self.receiving.take_if(|receiving| receiving.name == name) {
                    self.store.remove(dropped.key)?;
                }
                Ok(None)
            }
            SnapshotCommand::Remove(name) => {
                if let Some(key) = self.complete.remove(&name) {
                    self.store.remove(key)?;
                }
                Ok(None)
            }
        }
    }

    fn write(&mut self, name: SnapshotName, chunk: u64, bytes: Bytes) -> Result<(), SnapshotError> {
        if let Some(dropped) = self.receiving.take_if(|receiving| receiving.name != name) {
            self.store.remove(dropped.key)?;
        }
        let receiving = match &mut self.receiving {
            Some(receiving) => receiving,
            none => {
                let (key, digest) = (self.store.begin()?, Box::new(Xxh3::new()));
                none.insert(Receiving { name, key, digest, hashed: 0 })
            }
        };
        if chunk == receiving.hashed {
            receiving.digest.update(&bytes);
            receiving.hashed += 1;
        }
        Ok(self.store.write(receiving.key, chunk, bytes)?)
    }

    /// Completes a received snapshot, atomically (rule L6).
    fn finish(&mut self, name: SnapshotName) -> Result<SnapshotEvent, SnapshotError> {
        let Some(mut receiving) = self.receiving.take_if(|receiving| receiving.name == name) else {
            return Err(SnapshotError::Unknown(name));
        };
        let key = receiving.key;
        // Chunks that arrived out of order are read back from the store and hashed now.
        while receiving.hashed < name.chunks() {
            receiving.digest.update(&self.store.read(key, receiving.hashed)?);
            receiving.hashed += 1;
        }
        let found = Digest(receiving.digest.digest128());
        let head = if found == name.digest {
            self.head_of(name, key).map_err(|error| error.to_string())
        } else {
            Err(format!("its bytes have the digest {found}"))
        };
        match head {
            Ok(head) => {
                self.commit(key, name)?;
                Ok(SnapshotEvent::Received { name, head: Box::new(head) })
            }
            Err(reason) => {
                self.store.remove(key)?;
                Ok(SnapshotEvent::Refused { name, reason })
            }
        }
    }

    fn commit(&mut self, key: SnapshotKey, name: SnapshotName) -> Result<(), SnapshotError> {
        let about =
            codec::encode(&name).map_err(|error| SnapshotError::Nameless(error.to_string()))?;
        self.store.commit(key, about.into())?;
        // The same snapshot may have been both received and taken here.
        if let Some(twin) = self.complete.insert(name, key) {
            self.store.remove(twin)?;
        }
        Ok(())
    }

    /// Appends the next chunk to the draft of the replica's own state.
    ///
    /// # Errors
    ///
    /// Fails if the store fails. Then the replica must stop.
    pub fn take(&mut self, bytes: Bytes) -> Result<(), SnapshotError> {
        let (key, chunk) = match self.taking {
            Some(taking) => taking,
            None => (self.store.begin()?, 0),
        };
        self.taking = Some((key, chunk + 1));
        Ok(self.store.write(key, chunk, bytes)?)
    }

    /// Completes the draft of the replica's own state, which has all its chunks.
    ///
    /// # Errors
    ///
    /// Fails if the store fails. Then the replica must stop.
    pub fn taken(&mut self, name: SnapshotName) -> Result<SnapshotEvent, SnapshotError> {
        let (key, _) = self.taking.take().ok_or(SnapshotError::Unknown(name))?;
        self.commit(key, name)?;
        Ok(SnapshotEvent::Taken(name))
    }
}

impl SnapshotManager {
    /// Reads back a chunk of the draft of the replica's own state.
    ///
    /// # Errors
    ///
    /// Fails if there is no draft or the chunk cannot be read.
    pub fn read_taken(&mut self, name: SnapshotName, chunk: u64) -> Result<Bytes, SnapshotError> {
        let (key, _) = self.taking.ok_or(SnapshotError::Unknown(name))?;
        Ok(self.store.read(key, chunk)?)
    }

    /// Drops the draft of the replica's own state, because it could not be restored.
    ///
    /// # Errors
    ///
    /// Fails if the store fails. Then the replica must stop.
    pub fn drop_taken(
        &mut self,
        name: SnapshotName,
        reason: String,
    ) -> Result<SnapshotEvent, SnapshotError> {
        let (key, _) = self.taking.take().ok_or(SnapshotError::Unknown(name))?;
        self.store.remove(key)?;
        Ok(SnapshotEvent::Unreadable { name, reason })
    }
}

impl std::fmt::Debug for SnapshotManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotManager").field("complete", &self.names()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use plainsong_storage::MemorySnapshots;

    use super::super::SnapshotWriter;
    use super::*;
    use crate::engine::SnapshotHead;

    /// Returns a snapshot with a single chunk, and this chunk.
    fn snapshot() -> (SnapshotName, Bytes) {
        let head = SnapshotHead { tables: Default::default() };
        let mut chunks = Vec::new();
        let name = SnapshotWriter::write_chunks(&head, "a state", |chunk| {
            chunks.push(chunk);
            Ok(())
        });
        (name.unwrap(), chunks.remove(0))
    }

    #[test]
    fn a_snapshot_abandoned_after_its_completion_is_kept() {
        let mut manager = SnapshotManager::open(Box::<MemorySnapshots>::default()).unwrap();
        let (name, bytes) = snapshot();
        let mut carry_out = |op| manager.carry_out(op).unwrap();
        carry_out(SnapshotCommand::Write { name, chunk: 0, bytes: bytes.clone() });
        // The engine abandons the snapshot before it learns that the snapshot is complete.
        let received = carry_out(SnapshotCommand::Finish(name));
        assert!(matches!(received, Some(SnapshotEvent::Received { .. })), "{received:?}");
        carry_out(SnapshotCommand::Abandon(name));
        let read = carry_out(SnapshotCommand::Read { name, chunk: 0 });
        assert_eq!(read, Some(SnapshotEvent::Read { name, chunk: 0, bytes }));
    }

    #[test]
    fn an_abandoned_snapshot_is_removed_from_the_store() {
        let mut manager = SnapshotManager::open(Box::<MemorySnapshots>::default()).unwrap();
        let (name, bytes) = snapshot();
        manager.carry_out(SnapshotCommand::Write { name, chunk: 0, bytes }).unwrap();
        manager.carry_out(SnapshotCommand::Abandon(name)).unwrap();
        let finished = manager.carry_out(SnapshotCommand::Finish(name));
        assert!(matches!(finished, Err(SnapshotError::Unknown(_))), "{finished:?}");
    }
}
