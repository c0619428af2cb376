use std::collections::BTreeSet;
use std::future::pending;

use bytes::Bytes;

use super::session::text;
use crate::limits::{PATTERN_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::request::Fault;
use crate::resp::Reply;
use crate::{Change, Changes, View, glob};

/// The channels that Redis tells changes of keys on, by the key and by what happened.
const BY_KEY: &[u8] = b"__keyspace@0__:";
const BY_EVENT: &[u8] = b"__keyevent@0__:";

/// The channels and patterns that a client listens to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    /// While there are any.
    changes: Option<Changes>,
}

/// What is listened to by its name, and what by a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Channels,
    Patterns,
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// Begins to listen; a reply for each name.
    pub(super) fn add(
        &mut self,
        of: Of,
        names: &[Bytes],
        view: &View,
    ) -> Result<Vec<Reply>, Fault> {
        if names.iter().any(|name| name.len() > PATTERN_BYTES_MAX) {
            return Err(Fault::Pattern);
        }
        if self.count() + names.len() > SUBSCRIPTIONS_MAX {
            return Err(Fault::TooManySubscriptions);
        }
        self.changes.get_or_insert_with(|| view.changes());
        let verb = if of == Of::Channels { "subscribe" } else { "psubscribe" };
        let add = |name: &Bytes| {
            // A copy: a view would keep all that was read.
            let name = Bytes::copy_from_slice(name);
            self.of(of).insert(name.clone());
            told(verb, Reply::BulkString(name), self.count())
        };
        Ok(names.iter().map(add).collect())
    }

    /// Listens no more, to anything if no name is given; a reply for each name.
    pub(super) fn remove(&mut self, of: Of, names: &[Bytes]) -> Vec<Reply> {
        let verb = if of == Of::Channels { "unsubscribe" } else { "punsubscribe" };
        let all: Vec<Bytes> = self.of(of).iter().cloned().collect();
        let names = if names.is_empty() { &all } else { names };
        let mut replies = Vec::new();
        for name in names {
            self.of(of).remove(name);
            replies.push(told(verb, Reply::BulkString(name.clone()), self.count()));
        }
        if replies.is_empty() {
            replies.push(told(verb, Reply::Null, self.count()));
        }
        if self.is_empty() {
            self.changes = None;
        }
        replies
    }

    /// What happens next, if anything is listened to. `None`: some of it was missed.
    pub(super) async fn next(&mut self) -> Option<Change> {
        match &mut self.changes {
            Some(changes) => changes.next().await,
            None => pending().await,
        }
    }

    /// How a change is told: once for each channel and each pattern.
    pub(super) fn messages(&self, change: &Change) -> Vec<Reply> {
        let name = change.event.name();
        let by_key = ([BY_KEY, &change.key].concat(), Bytes::from_static(name.as_bytes()));
        let by_event = ([BY_EVENT, name.as_bytes()].concat(), change.key.clone());
        let mut messages = Vec::new();
        for (channel, payload) in [by_key, by_event] {
            let (channel, payload) = (Bytes::from(channel), Reply::BulkString(payload));
            if self.channels.contains(&channel) {
                messages.push(Reply::Push(vec![
                    text("message"),
                    Reply::BulkString(channel.clone()),
                    payload.clone(),
                ]));
            }
            for pattern in self.patterns.iter().filter(|glob| glob::matches(glob, &channel)) {
                messages.push(Reply::Push(vec![
                    text("pmessage"),
                    Reply::BulkString(pattern.clone()),
                    Reply::BulkString(channel.clone()),
                    payload.clone(),
                ]));
            }
        }
        messages
    }

    fn of(&mut self, of: Of) -> &mut BTreeSet<Bytes> {
        match of {
            Of::Channels => &mut self.channels,
            Of::Patterns => &mut self.patterns,
        }
    }

    /// Returns the number of channels and of patterns.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.patterns.len())
    }

    fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}

fn told(verb: &'static str, name: Reply, count: usize) -> Reply {
    Reply::Push(vec![text(verb), name, Reply::Integer(count as i64)])
}
