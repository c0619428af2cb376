use std::collections::BTreeSet;
use std::future::pending;

use bytes::Bytes;

use super::connection_state::text;
use crate::limits::{PATTERN_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::listening::Of;
use crate::request::Fault;
use crate::resp::Reply;
use crate::{Change, Changes, Notice, View, glob};

/// Prefix of the channels for changes of a key. The key follows.
const BY_KEY: &[u8] = b"__keyspace@0__:";
/// Prefix of the channels for events of a kind. The name of the event follows.
const BY_EVENT: &[u8] = b"__keyevent@0__:";

/// The channels and patterns that a client subscribes to.
#[derive(Debug)]
pub(super) struct Subscriptions {
    view: View,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    /// `Some` while there are any subscriptions.
    changes: Option<Changes>,
}

impl Subscriptions {
    /// Creates an empty set of subscriptions for a server with this view.
    pub(super) fn new(view: View) -> Self {
        Self { view, channels: BTreeSet::new(), patterns: BTreeSet::new(), changes: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// Subscribes to channels or patterns. Returns a reply for each name.
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
            // Copied, because a slice would keep the whole input buffer in memory.
            let name = Bytes::copy_from_slice(name);
            if self.of(of).insert(name.clone()) {
                self.view.listening().add(of, &name);
            }
            subscription_reply(verb, Reply::BulkString(name), self.count())
        };
        Ok(names.iter().map(add).collect())
    }

    /// Unsubscribes from channels or patterns, or from all of them if no name is given. Returns a
    /// reply for each name.
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

    /// Waits for the next notice. Never returns without subscriptions. Returns `None` if some
    /// notices were missed.
    pub(super) async fn next(&mut self) -> Option<Notice> {
        let may_match_key_changes = self.may_match_key_changes();
        let Some(changes) = &mut self.changes else { return pending().await };
        loop {
            match changes.next().await {
                // There is no notice for each deleted key, so this counts as missed notices.
                Some(Notice::Cleared) if may_match_key_changes => return None,
                Some(Notice::Cleared) => {}
                notice => return notice,
            }
        }
    }

    /// Returns true if a subscription may match a channel for changes of keys.
    fn may_match_key_changes(&self) -> bool {
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

    /// Returns the messages for a notice: one for each channel and each pattern that matches.
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

    /// Returns the number of channels and the number of patterns.
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
