use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Held, Peer, Result, Write, stored};

pub struct Fjall {
    database: Database,
    log: Keyspace,
    facts: Keyspace,
    first: u64,
    last: u64,
}

impl Fjall {
    pub fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder.join("fjall")).open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        let facts = database.keyspace("facts", KeyspaceCreateOptions::default)?;
        Ok(Self { database, log, facts, first: 1, last: 0 })
    }
}

impl Peer for Fjall {
    fn write(&mut self, write: &Write<'_>) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        if let Some(facts) = write.facts {
            batch.insert(&self.facts, "facts", facts);
        }
        if let Some(after) = write.cut {
            // Records that are replaced by this write need not be removed first.
            let replaced = write.append.len() as u64;
            for index in after + 1 + replaced..=self.last {
                batch.remove(&self.log, index.to_be_bytes());
            }
            self.last = after;
        }
        for (index, bytes) in write.append {
            batch.insert(&self.log, index.to_be_bytes(), stored(bytes));
            self.last = *index;
        }
        if let Some(through) = write.compact {
            for index in self.first..=through {
                batch.remove(&self.log, index.to_be_bytes());
            }
            self.first = through + 1;
        }
        batch.commit()?;
        Ok(())
    }

    fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        for item in self.log.iter() {
            let (key, value) = item.into_inner()?;
            held.add(u64::from_be_bytes(key.as_ref().try_into()?), &value)?;
        }
        Ok(held)
    }
}
