use std::path::Path;

use protobuf::well_known_types::BytesValue;
use raft_engine::env::DefaultFileSystem;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Held, Peer, Result, Write, stored};

const REGION: u64 = 1;
const FACTS: &[u8] = b"facts";
const LAST: &[u8] = b"last";

pub struct RaftEngine {
    engine: Engine<DefaultFileSystem>,
    writes: u64,
}

/// Entries are protobuf messages that contain their index.
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |index| u64::from_le_bytes(*index))
    }
}

impl RaftEngine {
    pub fn open(folder: &Path) -> Result<Self> {
        let config = Config {
            dir: folder.join("raft-engine").display().to_string(),
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize::mb(64),
            purge_threshold: ReadableSize::mb(256),
            ..Config::default()
        };
        Ok(Self { engine: Engine::open(config)?, writes: 0 })
    }
}

impl Peer for RaftEngine {
    fn write(&mut self, write: &Write<'_>) -> Result<()> {
        let mut batch = LogBatch::default();
        if let Some(facts) = write.facts {
            batch.put(REGION, FACTS.to_vec(), facts.to_vec())?;
        }
        let mut entries = Vec::with_capacity(write.append.len());
        for (index, bytes) in write.append {
            let mut value = index.to_le_bytes().to_vec();
            value.extend_from_slice(&stored(bytes));
            entries.push(BytesValue { value, ..BytesValue::default() });
        }
        batch.add_entries::<Indexed>(REGION, &entries)?;
        // It truncates records only by replacing them, so the last index has to be stored.
        let last = write.append.last().map(|(index, _)| *index).or(write.cut);
        if let Some(last) = last {
            batch.put(REGION, LAST.to_vec(), last.to_le_bytes().to_vec())?;
        }
        self.engine.write(&mut batch, true)?;
        if let Some(through) = write.compact {
            self.engine.compact_to(REGION, through + 1);
        }
        self.writes += 1;
        if self.writes % 64 == 0 {
            self.engine.purge_expired_files()?;
        }
        Ok(())
    }

    fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        let (Some(first), Some(last)) =
            (self.engine.first_index(REGION), self.engine.last_index(REGION))
        else {
            return Ok(held);
        };
        let mut entries = Vec::new();
        let mut from = first;
        while from <= last {
            let to = (from + 256).min(last + 1);
            self.engine.fetch_entries_to::<Indexed>(REGION, from, to, None, &mut entries)?;
            for entry in entries.drain(..) {
                held.add(Indexed::index(&entry), &entry.value[8..])?;
            }
            from = to;
        }
        Ok(held)
    }
}
