use std::collections::BTreeMap;

use bytes::Bytes;
use plainsong::{Context, StateMachine};
use serde::{Deserialize, Serialize};

/// Keys that there are.
const KEYS: u64 = 100_000;
/// What a [`Put`] takes beside its value: the key, and the length of the value.
const PUT_BYTES: usize = 16;

/// A map from numbers to bytes.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Map(BTreeMap<u64, Bytes>);

/// Puts a value into a [`Map`]; answered by how many there are.
#[derive(Serialize, Deserialize)]
pub struct Put {
    key: u64,
    value: Bytes,
}

impl Put {
    /// A command that takes so many bytes when it is encoded, 16 at least.
    pub fn of(key: u64, value: &Bytes, bytes: usize) -> Self {
        Self { key, value: value.slice(..bytes.saturating_sub(PUT_BYTES).min(value.len())) }
    }
}

impl Map {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length of a value.
    pub fn get(&self, key: u64) -> usize {
        self.0.get(&(key % KEYS)).map_or(0, Bytes::len)
    }
}

impl StateMachine for Map {
    type Command = Put;
    type Output = usize;

    fn apply(&mut self, _: &Context, Put { key, value }: Put) -> usize {
        self.0.insert(key % KEYS, value);
        self.0.len()
    }

    plainsong::snapshot_by_clone!();
}
