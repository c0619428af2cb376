//! Applies commands.

use bytes::Bytes;

use super::{Entry, KvStore, Place, integer};
use crate::command::{
    Command, Condition, Deadline, ExpireCondition, Expiry, Output, Query, Refusal, Step,
};
use crate::extended::{Extended, Read};
use crate::limits::VALUE_BYTES_MAX;
use crate::number;
use crate::view::KeyEvent;

impl KvStore {
    pub(super) fn write(&mut self, command: Command) -> Output {
        match command {
            Command::GetAndExpire { key, expiry } => self.get_and_expire(key, expiry),
            Command::GetAndDelete { key } => {
                let place = Place::of(key);
                let old = self.live(&place).map(|entry| entry.value.clone());
                self.delete(&place);
                old.map_or(Output::Absent, Output::Value)
            }
            Command::Set { key, value, condition, expiry, get } => {
                self.set(key, value, &condition, expiry, get)
            }
            Command::SetMany(pairs) => self.set_many(pairs),
            Command::SetManyIfAbsent(pairs) => {
                let there = |(key, _): &(Bytes, _)| self.live(&Place::of(key.clone())).is_some();
                if pairs.iter().any(there) { Output::Absent } else { self.set_many(pairs) }
            }
            Command::Delete(keys) => {
                let places = keys.into_iter().map(Place::of);
                Output::Integer(integer(places.filter(|place| self.delete(place)).count()))
            }
            Command::DeleteIf { key, condition } => {
                let place = Place::of(key);
                let there = self.live(&place).map(|entry| &entry.value);
                let gone = there.is_some() && condition.holds(there) && self.delete(&place);
                Output::Integer(i64::from(gone))
            }
            Command::Add { key, delta } => self.add(key, delta),
            Command::Append { key, tail } => self.append(key, &tail),
            Command::SetRange { key, first, part } => self.set_range(key, first, &part),
            Command::Expire { key, deadline, condition } => self.expire(key, deadline, condition),
            Command::Persist { key } => {
                let place = Place::of(key);
                match self.live(&place) {
                    Some(Entry { value, deadline: Some(_), .. }) => {
                        let value = value.clone();
                        self.insert(place, value, None, KeyEvent::Persist);
                        Output::Integer(1)
                    }
                    _ => Output::Integer(0),
                }
            }
            Command::AddFloat { key, delta } => self.add_float(key, &delta),
            Command::Rename { key, to, if_absent } => self.rename(key, to, if_absent),
            Command::Copy { key, to, replace } => self.copy(key, to, replace),
            Command::Publish { channel, message } => {
                self.view.publish(self.index, channel, message);
                Output::Done
            }
            Command::Clear => {
                self.entries = Default::default();
                self.deadlines.clear();
                self.bytes = 0;
                // One notice for all, because there may be too many keys for a notice each.
                self.view.clear(self.index);
                Output::Done
            }
        }
    }

    fn get_and_expire(&mut self, key: Bytes, expiry: Expiry) -> Output {
        let place = Place::of(key);
        let Some(entry) = self.live(&place) else { return Output::Absent };
        let (value, old) = (entry.value.clone(), entry.deadline);
        let deadline = expiry.resolve(self.now, old);
        // An unchanged expiry is not a change, so the version stays the same.
        if deadline != old {
            let event = if deadline.is_some() { KeyEvent::Expire } else { KeyEvent::Persist };
            self.put(place, value.clone(), deadline, event);
        }
        Output::Value(value)
    }

    fn set(
        &mut self,
        key: Bytes,
        value: Bytes,
        condition: &Condition,
        expiry: Expiry,
        get: bool,
    ) -> Output {
        if value.len() > VALUE_BYTES_MAX {
            return Output::Refused(Refusal::TooLong);
        }
        let place = Place::of(key);
        let old = self.live(&place);
        let holds = condition.holds(old.map(|entry| &entry.value));
        let old_value = if get { old.map(|entry| entry.value.clone()) } else { None };
        if holds {
            let deadline = expiry.resolve(self.now, old.and_then(|entry| entry.deadline));
            let expires = matches!(expiry, Expiry::At(_)).then(|| place.key.clone());
            self.put(place, value, deadline, KeyEvent::Set);
            if let Some(key) = expires.filter(|_| deadline.is_some_and(|at| at > self.now)) {
                self.view.report(self.index, KeyEvent::Expire, &key);
            }
        }
        match old_value {
            Some(value) => Output::Value(value),
            None if get || !holds => Output::Absent,
            None => Output::Done,
        }
    }

    fn set_many(&mut self, pairs: Vec<(Bytes, Bytes)>) -> Output {
        if pairs.iter().any(|(_, value)| value.len() > VALUE_BYTES_MAX) {
            return Output::Refused(Refusal::TooLong);
        }
        for (key, value) in pairs {
            self.insert(Place::of(key), value, None, KeyEvent::Set);
        }
        Output::Done
    }

    fn add(&mut self, key: Bytes, delta: i64) -> Output {
        let place = Place::of(key);
        let (old, deadline) = match self.live(&place) {
            Some(entry) => (number::parse(&entry.value), entry.deadline),
            None => (Some(0), None),
        };
        let Some(old) = old else { return Output::Refused(Refusal::NotAnInteger) };
        let Some(sum) = old.checked_add(delta) else { return Output::Refused(Refusal::Overflow) };
        self.insert(place, sum.to_string().into(), deadline, KeyEvent::IncrBy);
        Output::Integer(sum)
    }

    fn add_float(&mut self, key: Bytes, delta: &[u8]) -> Output {
        let place = Place::of(key);
        let (old, deadline) = match self.live(&place) {
            Some(entry) => (Extended::read(&entry.value), entry.deadline),
            None => (Some(Read::Finite(Extended::ZERO)), None),
        };
        let (Some(old), Some(delta)) = (old, Extended::read(delta)) else {
            return Output::Refused(Refusal::NotAFloat);
        };
        let sum = match (old, delta) {
            (Read::Finite(old), Read::Finite(delta)) => old.checked_add(delta),
            _ => None,
        };
        let Some(sum) = sum else { return Output::Refused(Refusal::NotFinite) };
        let value = Bytes::from(sum.text());
        self.insert(place, value.clone(), deadline, KeyEvent::IncrByFloat);
        Output::Value(value)
    }

    fn rename(&mut self, key: Bytes, to: Bytes, if_absent: bool) -> Output {
        let (from, to) = (Place::of(key), Place::of(to));
        let Some(entry) = self.live(&from) else { return Output::Refused(Refusal::NoSuchKey) };
        let (value, deadline) = (entry.value.clone(), entry.deadline);
        if if_absent && self.live(&to).is_some() {
            return Output::Integer(0);
        }
        // Renaming a key to itself is not a change.
        if from != to {
            self.remove(&from);
            self.view.report(self.index, KeyEvent::RenameFrom, &from.key);
            self.insert(to, value, deadline, KeyEvent::RenameTo);
        }
        if if_absent { Output::Integer(1) } else { Output::Done }
    }

    fn copy(&mut self, key: Bytes, to: Bytes, replace: bool) -> Output {
        let to = Place::of(to);
        match self.live(&Place::of(key)) {
            Some(entry) if replace || self.live(&to).is_none() => {
                let (value, deadline) = (entry.value.clone(), entry.deadline);
                self.insert(to, value, deadline, KeyEvent::CopyTo);
                Output::Integer(1)
            }
            _ => Output::Integer(0),
        }
    }

    fn append(&mut self, key: Bytes, tail: &[u8]) -> Output {
        let place = Place::of(key);
        let (old, deadline) = self.value_or_empty(&place);
        let length = old.len() + tail.len();
        if length > VALUE_BYTES_MAX {
            return Output::Refused(Refusal::TooLong);
        }
        self.insert(place, [&old, tail].concat().into(), deadline, KeyEvent::Append);
        Output::Integer(integer(length))
    }

    fn set_range(&mut self, key: Bytes, first: u32, part: &[u8]) -> Output {
        let place = Place::of(key);
        let (old, deadline) = self.value_or_empty(&place);
        if part.is_empty() {
            return Output::Integer(integer(old.len()));
        }
        let first = first as usize;
        let end = first.saturating_add(part.len());
        if end > VALUE_BYTES_MAX {
            return Output::Refused(Refusal::TooLong);
        }
        let mut value = Vec::with_capacity(end.max(old.len()));
        value.extend_from_slice(&old);
        value.resize(end.max(old.len()), 0);
        value[first..end].copy_from_slice(part);
        let length = value.len();
        self.insert(place, value.into(), deadline, KeyEvent::SetRange);
        Output::Integer(integer(length))
    }

    fn value_or_empty(&self, place: &Place) -> (Bytes, Option<u64>) {
        self.live(place).map(|entry| (entry.value.clone(), entry.deadline)).unwrap_or_default()
    }

    fn expire(&mut self, key: Bytes, deadline: Deadline, condition: ExpireCondition) -> Output {
        let place = Place::of(key);
        let Some(entry) = self.live(&place) else { return Output::Integer(0) };
        let deadline = deadline.resolve(self.now);
        if !condition.holds(entry.deadline, deadline) {
            return Output::Integer(0);
        }
        let value = entry.value.clone();
        self.put(place, value, Some(deadline), KeyEvent::Expire);
        Output::Integer(1)
    }
}

impl Condition {
    /// Returns true if the condition holds for a key with this value; `None` is an absent key.
    fn holds(&self, value: Option<&Bytes>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => value.is_none(),
            Self::Present => value.is_some(),
            Self::Equal(wanted) => value == Some(&**wanted),
            Self::NotEqual(other) => value != Some(&**other),
        }
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

impl Step {
    /// Returns true if the output may contain values, which may be long.
    pub(super) fn answers_values(&self) -> bool {
        match self {
            Self::Read(query) => {
                !matches!(query, Query::Exists(_) | Query::Length { .. } | Query::Property { .. })
            }
            Self::Write(command) => matches!(
                command,
                Command::GetAndExpire { .. }
                    | Command::GetAndDelete { .. }
                    | Command::AddFloat { .. }
                    | Command::Set { get: true, .. }
            ),
        }
    }
}
