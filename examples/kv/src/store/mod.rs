mod read;
mod transaction;
mod write;

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use plainsong::{Context, Index, StateMachine, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::{Output, Proposal};
use crate::frozen::{self, Frozen};
use crate::keys::Keys;
use crate::limits::{ENTRY_BYTES, EXPIRED_PER_ENTRY_MAX};
use crate::view::{KeyEvent, View};

/// The state machine: keys with their values and expiries.
///
/// A key counts as absent from its expiry on. Time is the log's ([`Context::time`]), so all
/// replicas agree on it. The memory of expired keys is freed gradually, even in an idle group: the
/// store asks to be woken when the next key expires, and each time removes at most
/// [`EXPIRED_PER_ENTRY_MAX`] keys, in the order of their expiry.
///
/// Keys are kept in the order of a fixed hash. The hash is the cursor of `SCAN`, so scans need no
/// memory at the server, and may continue at another replica. A key that exists during a whole scan
/// is returned exactly once, because its hash is the same at every replica and never changes. Keys
/// with the same hash are returned together.
#[derive(Clone, Debug, Default)]
pub struct KvStore {
    entries: Keys,
    /// The places of all entries with a deadline. Always consistent with `entries`.
    deadlines: BTreeSet<(u64, Place)>,
    /// Log time of the last command or wake-up. No deadline has passed since.
    now: u64,
    /// Newest version of any key: the number of times that a key was given a value or an expiry.
    version: u64,
    /// Total size of the keys and values, with [`ENTRY_BYTES`] more for each.
    bytes: u64,
    /// Index of the last command or wake-up. Only used to report changes.
    index: Index,
    view: View,
}

/// Place of a key in the order: by its hash, then by the key itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) hash: u64,
    pub(crate) key: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// Expiry in milliseconds of log time.
    pub(crate) deadline: Option<u64>,
    /// Version of the last change. No other change of any key has the same version.
    pub(crate) version: u64,
}

/// Compares the states, and neither the index nor the view.
impl PartialEq for KvStore {
    fn eq(&self, other: &Self) -> bool {
        (&self.entries, self.now, self.version) == (&other.entries, other.now, other.version)
            && (&self.deadlines, self.bytes) == (&other.deadlines, other.bytes)
    }
}

impl Eq for KvStore {}

impl StateMachine for KvStore {
    type Command = Proposal;
    type Output = Output;

    fn application() -> String {
        "kv".into()
    }

    fn apply(&mut self, context: &Context, proposal: Proposal) -> Output {
        (self.now, self.index) = (context.time().0, context.index());
        let output = match proposal {
            Proposal::Command(command) => self.write(command),
            Proposal::Transaction(transaction) => self.transact(transaction),
        };
        self.view.holds(self.bytes);
        output
    }

    type Snapshot = Frozen;

    fn snapshot(&self) -> Frozen {
        Frozen { keys: self.entries.clone(), now: self.now, version: self.version }
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        let view = std::mem::take(&mut self.view);
        *self = Self { view, ..Self::default() };
        (self.now, self.version) = frozen::thaw(from, |place, entry| {
            self.replace(&place, entry);
        })?;
        self.view.holds(self.bytes);
        self.view.jump();
        Ok(())
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| Timestamp(*deadline))
    }

    fn wake(&mut self, context: &Context) {
        (self.now, self.index) = (context.time().0, context.index());
        self.take_out_expired();
        self.view.holds(self.bytes);
    }
}

impl KvStore {
    /// Returns a view that stays valid when the store is moved into a replica.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Returns the entry of a key if it exists and has not expired.
    fn live(&self, place: &Place) -> Option<&Entry> {
        self.entries.get(place).filter(|entry| entry.is_live(self.now))
    }

    /// Sets a key, or deletes it if the deadline has passed already.
    fn put(&mut self, place: Place, value: Bytes, deadline: Option<u64>, event: KeyEvent) {
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            self.delete(&place);
        } else {
            self.insert(place, value, deadline, event);
        }
    }

    fn insert(&mut self, place: Place, value: Bytes, deadline: Option<u64>, event: KeyEvent) {
        self.version += 1;
        let old = self.replace(&place, Entry { value, deadline, version: self.version });
        if old.is_some_and(|old| !old.is_live(self.now)) {
            self.view.report(self.index, KeyEvent::Expired, &place.key);
        }
        self.view.report(self.index, event, &place.key);
    }

    /// Deletes a key. Returns true if it existed and had not expired.
    fn delete(&mut self, place: &Place) -> bool {
        let Some(old) = self.remove(place) else { return false };
        let was_there = old.is_live(self.now);
        let event = if was_there { KeyEvent::Del } else { KeyEvent::Expired };
        self.view.report(self.index, event, &place.key);
        was_there
    }

    /// Inserts or replaces an entry, and updates everything derived from it.
    fn replace(&mut self, place: &Place, entry: Entry) -> Option<Entry> {
        let new = entry.deadline;
        self.bytes += entry_bytes(place, &entry);
        let old = self.entries.insert(place.clone(), entry);
        self.bytes -= old.as_ref().map_or(0, |old| entry_bytes(place, old));
        let old_deadline = old.as_ref().and_then(|old| old.deadline);
        if old_deadline == new {
            return old;
        }
        if let Some(deadline) = old_deadline {
            self.deadlines.remove(&(deadline, place.clone()));
        }
        if let Some(deadline) = new {
            self.deadlines.insert((deadline, place.clone()));
        }
        old
    }

    /// Removes an entry, and updates everything derived from it.
    fn remove(&mut self, place: &Place) -> Option<Entry> {
        let old = self.entries.remove(place)?;
        self.bytes -= entry_bytes(place, &old);
        if let Some(deadline) = old.deadline {
            self.deadlines.remove(&(deadline, place.clone()));
        }
        Some(old)
    }

    fn take_out_expired(&mut self) {
        for _ in 0..EXPIRED_PER_ENTRY_MAX {
            match self.deadlines.first() {
                Some((deadline, _)) if *deadline <= self.now => {}
                _ => return,
            }
            if let Some((_, place)) = self.deadlines.pop_first() {
                self.delete(&place);
            }
        }
    }
}

impl Place {
    pub(crate) fn of(key: Bytes) -> Self {
        Self { hash: xxh3_64(&key), key }
    }
}

impl Entry {
    pub(crate) fn is_live(&self, now: u64) -> bool {
        self.deadline.is_none_or(|deadline| deadline > now)
    }
}

fn entry_bytes(place: &Place, entry: &Entry) -> u64 {
    (place.key.len() + entry.value.len() + ENTRY_BYTES) as u64
}

/// Converts a length or count to `i64`. Both are far below its limit.
fn integer(length: usize) -> i64 {
    length as i64
}
