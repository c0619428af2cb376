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

/// The state machine: keys, their values and when they go.
///
/// A key whose time has come is absent from then on. What time it is, only the log says
/// ([`Context::time`]), so all replicas agree on it. The memory of such keys is given back bit by bit, in an idle group too: the store asks
/// to be woken when the next key goes, and takes out at most [`EXPIRED_PER_ENTRY_MAX`] of
/// them at a time, those that went first.
///
/// Keys are kept in the order of a fixed hash. That makes the hash a cursor for `SCAN`
/// which needs no memory at the server and survives any change between two calls, and the
/// replica that was asked: a key that is there all the time keeps its place, which is the same
/// everywhere, and is met exactly once. Keys with the same hash are answered together.
#[derive(Clone, Debug, Default)]
pub struct KvStore {
    entries: Keys,
    /// The places of all entries with a deadline. Always agrees with `entries`.
    deadlines: BTreeSet<(u64, Place)>,
    /// The log's time when something last happened here: no deadline has passed since.
    now: u64,
    /// How often a key was given a value or an expiry so far: the newest version of any.
    version: u64,
    /// What the entries hold, each with [`ENTRY_BYTES`] more.
    bytes: u64,
    /// Where in the log that was; for those who listen only.
    index: Index,
    view: View,
}

/// Where a key is in the order: its hash, then the key itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) hash: u64,
    pub(crate) key: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// In milliseconds of log time.
    pub(crate) deadline: Option<u64>,
    /// Of the last change; no other change of any key has the same.
    pub(crate) version: u64,
}

/// The same state, wherever in the log and whoever looks at it.
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
    /// What a server sees of this store, wherever the store goes.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The entry of a key that is there.
    fn live(&self, place: &Place) -> Option<&Entry> {
        self.entries.get(place).filter(|entry| entry.is_live(self.now))
    }

    /// Gives a key a value, unless its time has come already; then the key goes.
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
            self.view.tell(self.index, KeyEvent::Expired, &place.key);
        }
        self.view.tell(self.index, event, &place.key);
    }

    /// Deletes a key; says whether it was there.
    fn delete(&mut self, place: &Place) -> bool {
        let Some(old) = self.remove(place) else { return false };
        let was_there = old.is_live(self.now);
        let event = if was_there { KeyEvent::Del } else { KeyEvent::Expired };
        self.view.tell(self.index, event, &place.key);
        was_there
    }

    /// Puts an entry into its place, and updates everything derived from it.
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

    /// Takes an entry out of its place, and updates everything derived from it.
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

/// Lengths and counts are far below the limit of an `i64`.
fn integer(length: usize) -> i64 {
    length as i64
}
