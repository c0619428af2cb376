use std::collections::BTreeMap;

use bytes::Bytes;
use plainsong::{Context, StateMachine};
use serde::{Deserialize, Serialize};

/// Number of keys.
const KEYS: u64 = 100_000;
/// Encoded size of a [`Put`] without its value: the key, and the length of the value.
const PUT_BYTES: usize = 16;

/// A map from numbers to bytes.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Map(BTreeMap<u64, Bytes>);

/// Sets a value in a [`Map`]. Returns the number of values.
#[derive(Serialize, Deserialize)]
pub struct Put {
    key: u64,
    value: Bytes,
}

impl Put {
    /// Creates a command with this encoded size, at least 16 bytes.
    pub fn of(key: u64, value: &Bytes, bytes: usize) -> Self {
        Self { key, value: value.slice(..bytes.saturating_sub(PUT_BYTES).min(value.len())) }
    }
}

impl Map {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the length of a value.
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
