use std::collections::BTreeSet;
use std::future::pending;

use bytes::Bytes;

use super::connection_state::text;
use crate::limits::{PATTERN_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::listening::Of;
use crate::request::Fault;
use crate::resp::Reply;
use crate::{Change, Changes, Notice, View, glob};

/// The channels that Redis tells changes of keys on, by the key and by what happened.
const BY_KEY: &[u8] = b"__keyspace@0__:";
const BY_EVENT: &[u8] = b"__keyevent@0__:";

/// The channels and patterns that a client listens to.
#[derive(Debug)]
pub(super) struct Subscriptions {
    view: View,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    /// While there are any.
    changes: Option<Changes>,
}

impl Subscriptions {
    /// None at first, of a server with this view.
    pub(super) fn new(view: View) -> Self {
        Self { view, channels: BTreeSet::new(), patterns: BTreeSet::new(), changes: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// Begins to listen; a reply for each name.
    pub(super) fn add(&mut self, of: Of, names: &[Bytes]) -> Result<Vec<Reply>, Fault> {
        if names.iter().any(|name| name.len() > PATTERN_BYTES_MAX) {
            return Err(Fault::Pattern);
        }
        if self.count() + names.len() > SUBSCRIPTIONS_MAX {
            return Err(Fault::TooManySubscriptions);
        }
        self.changes.get_or_insert_with(|| self.view.changes());
        let verb = if of == Of::Channels { "subscribe" } else { "psubscribe" };
        let add = |name: &Bytes| {
            // A copy: a view would keep all that was read.
            let name = Bytes::copy_from_slice(name);
            if self.of(of).insert(name.clone()) {
                self.view.listening().add(of, &name);
            }
            subscription_reply(verb, Reply::BulkString(name), self.count())
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
            if self.of(of).remove(name) {
                self.view.listening().remove(of, name);
            }
            replies.push(subscription_reply(verb, Reply::BulkString(name.clone()), self.count()));
        }
        if replies.is_empty() {
            replies.push(subscription_reply(verb, Reply::Null, self.count()));
        }
        if self.is_empty() {
            self.changes = None;
        }
        replies
    }

    /// What happens next, if anything is listened to. `None`: some of it was missed.
    pub(super) async fn next(&mut self) -> Option<Notice> {
        let hears_of_keys = self.hears_of_keys();
        let Some(changes) = &mut self.changes else { return pending().await };
        loop {
            match changes.next().await {
                // It was not told of each of them.
                Some(Notice::Cleared) if hears_of_keys => return None,
                Some(Notice::Cleared) => {}
                notice => return notice,
            }
        }
    }

    /// Whether changes of keys may be among what the client listens to.
    fn hears_of_keys(&self) -> bool {
        let is_of_keys = |name: &Bytes| name.starts_with(BY_KEY) || name.starts_with(BY_EVENT);
        let may_be_of_keys = |pattern: &Bytes| {
            let end = pattern.iter().position(|byte| b"*?[\\".contains(byte));
            let literal = &pattern[..end.unwrap_or(pattern.len())];
            [BY_KEY, BY_EVENT]
                .iter()
                .any(|prefix| prefix.starts_with(literal) || literal.starts_with(prefix))
        };
        self.channels.iter().any(is_of_keys) || self.patterns.iter().any(may_be_of_keys)
    }

    /// Returns what a notice is told by: once for each channel and each pattern.
    pub(super) fn messages(&self, notice: &Notice) -> Vec<Reply> {
        match notice {
            Notice::Change(change) => self.of_change(change),
            Notice::Message(message) => {
                let mut replies = Vec::new();
                self.on_channel(&message.channel, &message.payload, &mut replies);
                replies
            }
            Notice::Cleared => Vec::new(),
        }
    }

    fn of_change(&self, change: &Change) -> Vec<Reply> {
        let name = change.event.name();
        let by_key = ([BY_KEY, &change.key].concat(), Bytes::from_static(name.as_bytes()));
        let by_event = ([BY_EVENT, name.as_bytes()].concat(), change.key.clone());
        let mut messages = Vec::new();
        for (channel, payload) in [by_key, by_event] {
            self.on_channel(&Bytes::from(channel), &payload, &mut messages);
        }
        messages
    }

    fn on_channel(&self, channel: &Bytes, payload: &Bytes, messages: &mut Vec<Reply>) {
        let (channel_text, payload) =
            (Reply::BulkString(channel.clone()), Reply::BulkString(payload.clone()));
        if self.channels.contains(channel) {
            messages.push(Reply::Push(vec![
                text("message"),
                channel_text.clone(),
                payload.clone(),
            ]));
        }
        for pattern in self.patterns.iter().filter(|glob| glob::matches(glob, channel)) {
            messages.push(Reply::Push(vec![
                text("pmessage"),
                Reply::BulkString(pattern.clone()),
                channel_text.clone(),
                payload.clone(),
            ]));
        }
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

fn subscription_reply(verb: &'static str, name: Reply, count: usize) -> Reply {
    Reply::Push(vec![text(verb), name, Reply::Integer(count as i64)])
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        let listening = self.view.listening();
        self.channels.iter().for_each(|name| listening.remove(Of::Channels, name));
        self.patterns.iter().for_each(|name| listening.remove(Of::Patterns, name));
    }
}
