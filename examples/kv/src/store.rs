use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use plainsong::{Context, StateMachine, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::{
    Command, Condition, Deadline, ExpireCondition, Expiry, LifetimeForm, Output, Query, Refusal,
};
use crate::frozen::{self, Frozen};
use crate::keys::Keys;
use crate::limits::{
    EXPIRED_PER_ENTRY_MAX, REPLY_BYTES_MAX, SCAN_COUNT_MAX, SCAN_KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::{glob, number};

/// The state machine: keys, their values and when they go.
///
/// A key whose time has come is absent from then on. What time it is, only the log says
/// ([`Context::time`]), so all replicas agree on it. The memory of such keys is given back bit by bit, in an idle group too: the store asks
/// to be woken when the next key goes, and takes out at most [`EXPIRED_PER_ENTRY_MAX`] of
/// them at a time, those that went first.
///
/// Keys are kept in the order of a fixed hash. That makes the hash a cursor for `SCAN`
/// which needs no memory at the server and survives any change between two calls: a key
/// that is there all the time keeps its place and is met exactly once. Keys with the same
/// hash are answered together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    entries: Keys,
    /// The places of all entries with a deadline. Always in step with `entries`.
    deadlines: BTreeSet<(u64, Place)>,
    /// The log's time when something last happened here: no deadline has passed since.
    now: u64,
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
}

impl StateMachine for Store {
    type Command = Command;
    type Output = Output;

    fn apply(&mut self, context: &Context, command: Command) -> Output {
        self.execute(context.time(), command)
    }

    type Snapshot = Frozen;

    fn snapshot(&self) -> Frozen {
        Frozen { keys: self.entries.clone(), now: self.now }
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        *self = Self::default();
        self.now = frozen::thaw(from, |place, entry| self.insert(place, entry))?;
        Ok(())
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| Timestamp(*deadline))
    }

    fn wake(&mut self, context: &Context) {
        self.now = context.time().0;
        self.take_out_expired();
    }
}

impl Store {
    /// Carries out a command at a moment of log time, which never goes back.
    pub fn execute(&mut self, time: Timestamp, command: Command) -> Output {
        let now = time.0;
        self.now = now;
        match command {
            Command::GetAndExpire { key, expiry } => self.get_and_expire(now, key, expiry),
            Command::GetAndDelete { key } => {
                let place = Place::of(key);
                let old = self.live(now, &place).map(|entry| entry.value.clone());
                self.remove(&place);
                old.map_or(Output::Absent, Output::Value)
            }
            Command::Set { key, value, condition, expiry, get } => {
                self.set(now, key, value, condition, expiry, get)
            }
            Command::SetMany(pairs) => {
                if pairs.iter().any(|(_, value)| value.len() > VALUE_BYTES_MAX) {
                    return Output::Refused(Refusal::TooLong);
                }
                for (key, value) in pairs {
                    self.insert(Place::of(key), Entry { value, deadline: None });
                }
                Output::Done
            }
            Command::Delete(keys) => {
                let places = keys.into_iter().map(Place::of);
                let gone = places.filter(|p| self.live(now, p).is_some() && self.remove(p));
                Output::Integer(integer(gone.count()))
            }
            Command::Add { key, delta } => self.add(now, key, delta),
            Command::Append { key, tail } => self.append(now, key, &tail),
            Command::Expire { key, deadline, condition } => {
                self.expire(now, key, deadline, condition)
            }
            Command::Persist { key } => {
                let place = Place::of(key);
                match self.live(now, &place) {
                    Some(Entry { value, deadline: Some(_) }) => {
                        let value = value.clone();
                        self.insert(place, Entry { value, deadline: None });
                        Output::Integer(1)
                    }
                    _ => Output::Integer(0),
                }
            }
        }
    }

    /// Answers a query, as of the last entry of the log. `wall` is the time by some clock:
    /// it only tells how long a key that is there will stay.
    pub fn answer(&self, query: Query, wall: Timestamp) -> Output {
        let now = self.now;
        match query {
            Query::Get { key } => match self.live(now, &Place::of(key)) {
                Some(entry) => Output::Value(entry.value.clone()),
                None => Output::Absent,
            },
            Query::GetMany(keys) => self.get_many(keys),
            Query::Exists(keys) => {
                let there = |key| self.live(now, &Place::of(key)).is_some();
                Output::Integer(integer(keys.into_iter().filter(|k| there(k.clone())).count()))
            }
            Query::Length { key } => {
                let length = self.live(now, &Place::of(key)).map_or(0, |entry| entry.value.len());
                Output::Integer(integer(length))
            }
            Query::Lifetime { key, form } => self.lifetime(wall.0.max(now), key, form),
            Query::Count => {
                let due =
                    self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).count();
                Output::Counted {
                    keys: (self.entries.len() - due) as u64,
                    expiring: (self.deadlines.len() - due) as u64,
                }
            }
            Query::Scan { cursor, count, pattern } => {
                self.scan(now, cursor, count, pattern.as_deref())
            }
        }
    }

    fn get_and_expire(&mut self, now: u64, key: Bytes, expiry: Expiry) -> Output {
        let place = Place::of(key);
        let Some(entry) = self.live(now, &place) else { return Output::Absent };
        let value = entry.value.clone();
        let deadline = expiry.resolve(now, entry.deadline);
        self.put(now, place, Entry { value: value.clone(), deadline });
        Output::Value(value)
    }

    fn get_many(&self, keys: Vec<Bytes>) -> Output {
        let mut bytes = 0;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.live(self.now, &Place::of(key)).map(|entry| entry.value.clone());
            bytes += value.as_ref().map_or(0, Bytes::len);
            if bytes > REPLY_BYTES_MAX {
                return Output::Refused(Refusal::ReplyTooLong);
            }
            values.push(value);
        }
        Output::Values(values)
    }

    fn set(
        &mut self,
        now: u64,
        key: Bytes,
        value: Bytes,
        condition: Condition,
        expiry: Expiry,
        get: bool,
    ) -> Output {
        if value.len() > VALUE_BYTES_MAX {
            return Output::Refused(Refusal::TooLong);
        }
        let place = Place::of(key);
        let old = self.live(now, &place);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => old.is_none(),
            Condition::Present => old.is_some(),
        };
        let old_value = if get { old.map(|entry| entry.value.clone()) } else { None };
        if holds {
            let deadline = expiry.resolve(now, old.and_then(|entry| entry.deadline));
            self.put(now, place, Entry { value, deadline });
        }
        match old_value {
            Some(value) => Output::Value(value),
            None if get || !holds => Output::Absent,
            None => Output::Done,
        }
    }

    fn add(&mut self, now: u64, key: Bytes, delta: i64) -> Output {
        let place = Place::of(key);
        let (old, deadline) = match self.live(now, &place) {
            Some(entry) => (number::parse(&entry.value), entry.deadline),
            None => (Some(0), None),
        };
        let Some(old) = old else { return Output::Refused(Refusal::NotAnInteger) };
        let Some(sum) = old.checked_add(delta) else { return Output::Refused(Refusal::Overflow) };
        self.insert(place, Entry { value: sum.to_string().into(), deadline });
        Output::Integer(sum)
    }

    fn append(&mut self, now: u64, key: Bytes, tail: &[u8]) -> Output {
        let place = Place::of(key);
        let (old, deadline) = match self.live(now, &place) {
            Some(entry) => (entry.value.clone(), entry.deadline),
            None => (Bytes::new(), None),
        };
        let length = old.len() + tail.len();
        if length > VALUE_BYTES_MAX {
            return Output::Refused(Refusal::TooLong);
        }
        self.insert(place, Entry { value: [&old, tail].concat().into(), deadline });
        Output::Integer(integer(length))
    }

    fn lifetime(&self, clock: u64, key: Bytes, form: LifetimeForm) -> Output {
        Output::Integer(match self.live(self.now, &Place::of(key)) {
            None => -2,
            Some(Entry { deadline: None, .. }) => -1,
            Some(Entry { deadline: Some(deadline), .. }) => {
                let (deadline_ms, left_ms) = (*deadline as i64, deadline.saturating_sub(clock));
                match form {
                    LifetimeForm::LeftMs => left_ms as i64,
                    LifetimeForm::LeftS => rounded_s(left_ms as i64),
                    LifetimeForm::DeadlineMs => deadline_ms,
                    LifetimeForm::DeadlineS => rounded_s(deadline_ms),
                }
            }
        })
    }

    fn expire(
        &mut self,
        now: u64,
        key: Bytes,
        deadline: Deadline,
        condition: ExpireCondition,
    ) -> Output {
        let place = Place::of(key);
        let Some(entry) = self.live(now, &place) else { return Output::Integer(0) };
        let deadline = deadline.resolve(now);
        if !condition.holds(entry.deadline, deadline) {
            return Output::Integer(0);
        }
        let value = entry.value.clone();
        self.put(now, place, Entry { value, deadline: Some(deadline) });
        Output::Integer(1)
    }

    fn scan(&self, now: u64, cursor: u64, count: u32, pattern: Option<&[u8]>) -> Output {
        let count = count.clamp(1, SCAN_COUNT_MAX);
        let (mut looked_at, mut bytes) = (0, 0);
        let mut bucket = cursor;
        let mut keys = Vec::new();
        for (place, entry) in self.entries.from(cursor) {
            let full = looked_at >= count || bytes >= SCAN_KEY_BYTES_MAX;
            if full && place.hash != bucket {
                return Output::Scanned { cursor: place.hash, keys };
            }
            bucket = place.hash;
            looked_at += 1;
            bytes += place.key.len();
            if entry.is_live(now) && pattern.is_none_or(|glob| glob::matches(glob, &place.key)) {
                keys.push(place.key.clone());
            }
        }
        Output::Scanned { cursor: 0, keys }
    }

    /// The entry of a key that is there.
    fn live(&self, now: u64, place: &Place) -> Option<&Entry> {
        self.entries.get(place).filter(|entry| entry.is_live(now))
    }

    /// Inserts an entry unless its time has come already; then the key goes.
    fn put(&mut self, now: u64, place: Place, entry: Entry) {
        if entry.is_live(now) {
            self.insert(place, entry);
        } else {
            self.remove(&place);
        }
    }

    fn insert(&mut self, place: Place, entry: Entry) {
        let deadline = entry.deadline;
        let old = self.entries.insert(place.clone(), entry).and_then(|old| old.deadline);
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.deadlines.remove(&(old, place.clone()));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, place));
        }
    }

    fn remove(&mut self, place: &Place) -> bool {
        let Some(old) = self.entries.remove(place) else { return false };
        if let Some(deadline) = old.deadline {
            self.deadlines.remove(&(deadline, place.clone()));
        }
        true
    }

    fn take_out_expired(&mut self) {
        for _ in 0..EXPIRED_PER_ENTRY_MAX {
            match self.deadlines.first() {
                Some((deadline, _)) if *deadline <= self.now => {}
                _ => return,
            }
            if let Some((_, place)) = self.deadlines.pop_first() {
                self.entries.remove(&place);
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
    fn is_live(&self, now: u64) -> bool {
        self.deadline.is_none_or(|deadline| deadline > now)
    }
}

impl Expiry {
    fn resolve(self, now: u64, old: Option<u64>) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Keep => old,
            Self::At(deadline) => Some(deadline.resolve(now)),
        }
    }
}

impl Deadline {
    fn resolve(self, now: u64) -> u64 {
        match self {
            Self::In(ms) => now.saturating_add(ms.max(0).unsigned_abs()).min(i64::MAX as u64),
            Self::At(ms) => ms.max(0).unsigned_abs(),
        }
    }
}

impl ExpireCondition {
    fn holds(self, old: Option<u64>, new: u64) -> bool {
        let longer = old.is_some_and(|old| new > old);
        let shorter = old.is_none_or(|old| new < old);
        self.present.is_none_or(|present| present == old.is_some())
            && self.longer.is_none_or(|wanted| if wanted { longer } else { shorter })
    }
}

/// Lengths and counts are far below the limit of an `i64`.
fn integer(length: usize) -> i64 {
    length as i64
}

fn rounded_s(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}
