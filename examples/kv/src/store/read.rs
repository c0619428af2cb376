//! Answers queries.

use bytes::Bytes;
use plainsong::Timestamp;

use super::{Entry, KvStore, Place, entry_bytes, integer};
use crate::command::{AllKeys, LifetimeForm, Output, Property, Query, Refusal};
use crate::limits::{REPLY_BYTES_MAX, SCAN_COUNT_MAX, SCAN_KEY_BYTES_MAX};
use crate::{glob, number};

/// Maximum length of a string that Redis stores as `embstr`, in one allocation with its header.
const EMBEDDED_BYTES_MAX: usize = 44;

/// Redis uses one shared object for each value that is an integer below this.
const SHARED_INTEGERS: i64 = 10_000;

impl KvStore {
    /// Answers a query as of the last applied log entry. `now` is an estimate of the log time. It
    /// is used only for the remaining lifetime of keys, not to decide whether a key has expired.
    pub fn answer(&self, query: Query, now: Timestamp) -> Output {
        match query {
            Query::Get { key } => match self.live(&Place::of(key)) {
                Some(entry) => Output::Value(entry.value.clone()),
                None => Output::Absent,
            },
            Query::GetMany(keys) => self.get_many(keys),
            Query::Exists(keys) => {
                let there = |key| self.live(&Place::of(key)).is_some();
                Output::Integer(integer(keys.into_iter().filter(|k| there(k.clone())).count()))
            }
            Query::Length { key } => {
                let length = self.live(&Place::of(key)).map_or(0, |entry| entry.value.len());
                Output::Integer(integer(length))
            }
            Query::Lifetime { key, form } => self.lifetime(now.0.max(self.now), key, form),
            Query::Count => {
                let due = |(deadline, _): &&(u64, Place)| *deadline <= self.now;
                let due = self.deadlines.iter().take_while(due).count();
                Output::Counted {
                    keys: (self.entries.len() - due) as u64,
                    expiring: (self.deadlines.len() - due) as u64,
                }
            }
            Query::Scan { cursor, count, pattern } => self.scan(cursor, count, pattern.as_deref()),
            Query::Versions(keys) => {
                Output::Versions(keys.into_iter().map(|key| self.version_of(key)).collect())
            }
            Query::Random(hash) => self.random(hash),
            Query::Property { key, property } => self.property(key, property),
            Query::Keys => Output::Keys(AllKeys { keys: self.entries.clone(), now: self.now }),
            Query::Position => Output::Integer(self.index.0 as i64),
            Query::Range { key, first, last } => match self.live(&Place::of(key)) {
                Some(entry) => Output::Value(range(&entry.value, first, last)),
                None => Output::Value(Bytes::new()),
            },
        }
    }

    /// Returns the version of a key, or 0 if it is absent.
    pub(super) fn version_of(&self, key: Bytes) -> u64 {
        self.live(&Place::of(key)).map_or(0, |entry| entry.version)
    }

    fn get_many(&self, keys: Vec<Bytes>) -> Output {
        let mut bytes = 0;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.live(&Place::of(key)).map(|entry| entry.value.clone());
            bytes += value.as_ref().map_or(0, Bytes::len);
            if bytes > REPLY_BYTES_MAX {
                return Output::Refused(Refusal::ReplyTooLong);
            }
            values.push(value);
        }
        Output::Values(values)
    }

    /// Returns the first existing key in hash order from `hash` on. Expired keys that are still in
    /// memory are skipped; there are few, because each wake-up removes some thousands of them.
    fn random(&self, hash: u64) -> Output {
        let is_live = |(_, entry): &(&Place, &Entry)| entry.is_live(self.now);
        let found = self.entries.from(hash).find(is_live);
        match found.or_else(|| self.entries.from(0).find(is_live)) {
            Some((place, _)) => Output::Value(place.key.clone()),
            None => Output::Absent,
        }
    }

    fn property(&self, key: Bytes, property: Property) -> Output {
        let place = Place::of(key);
        let Some(entry) = self.live(&place) else { return Output::Absent };
        let number = number::parse(&entry.value);
        match property {
            Property::Encoding => {
                Output::Value(Bytes::from_static(match (number, entry.value.len()) {
                    (Some(_), _) => b"int",
                    (None, ..=EMBEDDED_BYTES_MAX) => b"embstr",
                    (None, _) => b"raw",
                }))
            }
            Property::References => Output::Integer(match number {
                Some(0..SHARED_INTEGERS) => i32::MAX.into(),
                _ => 1,
            }),
            Property::IdleTime => Output::Integer(0),
            Property::Frequency => Output::Refused(Refusal::NoFrequency),
            Property::Bytes => Output::Integer(entry_bytes(&place, entry) as i64),
        }
    }

    fn lifetime(&self, clock: u64, key: Bytes, form: LifetimeForm) -> Output {
        Output::Integer(match self.live(&Place::of(key)) {
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

    fn scan(&self, cursor: u64, count: u32, pattern: Option<&[u8]>) -> Output {
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
            let matches = || pattern.is_none_or(|glob| glob::matches(glob, &place.key));
            if entry.is_live(self.now) && matches() {
                keys.push(place.key.clone());
            }
        }
        Output::Scanned { cursor: 0, keys }
    }
}

/// Returns the bytes from offset `first` to offset `last`, both inclusive. Negative offsets count
/// from the end.
fn range(value: &Bytes, first: i64, last: i64) -> Bytes {
    let length = integer(value.len());
    let place = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    // As in Redis, two negative offsets in the wrong order are an empty range, even if both are
    // before the first byte.
    if first < 0 && last < 0 && first > last {
        return Bytes::new();
    }
    let (first, last) = (place(first), place(last).min(length - 1));
    if first > last { Bytes::new() } else { value.slice(first as usize..=last as usize) }
}

fn rounded_s(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}
