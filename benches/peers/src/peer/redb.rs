use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Held, Peer, Result, Write, stored};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const FACTS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("facts");

pub struct Redb {
    database: Database,
    two_phases: bool,
}

impl Redb {
    pub fn open(folder: &Path, two_phases: bool) -> Result<Self> {
        let database = Database::builder().set_cache_size(64 << 20).create(folder.join("redb"))?;
        Ok(Self { database, two_phases })
    }
}

impl Peer for Redb {
    fn write(&mut self, write: &Write<'_>) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(self.two_phases);
        if let Some(facts) = write.facts {
            transaction.open_table(FACTS)?.insert(0, facts)?;
        }
        let mut log = transaction.open_table(LOG)?;
        if let Some(after) = write.cut {
            log.retain_in(after + 1.., |_, _| false)?;
        }
        for (index, bytes) in write.append {
            log.insert(index, stored(bytes).as_slice())?;
        }
        if let Some(through) = write.compact {
            log.retain_in(..=through, |_, _| false)?;
        }
        drop(log);
        transaction.commit()?;
        Ok(())
    }

    fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        let transaction = self.database.begin_read()?;
        for item in transaction.open_table(LOG)?.iter()? {
            let (index, bytes) = item?;
            held.add(index.value(), bytes.value())?;
        }
        Ok(held)
    }
}
