//! Counts the subscribers of each channel and pattern at one server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::glob;

/// Number of subscribers by channel and by pattern.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    channels: BTreeMap<Bytes, usize>,
    patterns: BTreeMap<Bytes, usize>,
}

/// Kind of a subscription: to a channel by its name, or to all channels that match a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Channels,
    Patterns,
}

impl Listening {
    /// Counts one more subscriber.
    pub(crate) fn add(&self, of: Of, name: &Bytes) {
        *self.lock().of(of).entry(name.clone()).or_default() += 1;
    }

    /// Counts one subscriber less.
    pub(crate) fn remove(&self, of: Of, name: &Bytes) {
        let mut counts = self.lock();
        let counts = counts.of(of);
        if let Some(count) = counts.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(name);
            }
        }
    }

    /// Returns the number of deliveries of a message on a channel, as `PUBLISH` counts them: a
    /// client counts once for each of its subscriptions that match.
    pub(crate) fn receivers(&self, channel: &[u8]) -> usize {
        let counts = self.lock();
        let by_name = counts.channels.get(channel).copied().unwrap_or(0);
        let patterns = counts.patterns.iter().filter(|(glob, _)| glob::matches(glob, channel));
        by_name + patterns.map(|(_, count)| count).sum::<usize>()
    }

    /// Returns the channels with subscribers, or those of them that match a pattern.
    pub(crate) fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let is_asked = |name: &&Bytes| pattern.is_none_or(|glob| glob::matches(glob, name));
        self.lock().channels.keys().filter(is_asked).cloned().collect()
    }

    /// Returns the number of clients subscribed to a channel by its name.
    pub(crate) fn on_channel(&self, channel: &[u8]) -> usize {
        self.lock().channels.get(channel).copied().unwrap_or(0)
    }

    /// Returns the number of channels and of patterns with subscribers.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let counts = self.lock();
        (counts.channels.len(), counts.patterns.len())
    }

    /// Locks the counts. Poisoning is ignored: no panic under the lock can leave them inconsistent.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&mut self, of: Of) -> &mut BTreeMap<Bytes, usize> {
        match of {
            Of::Channels => &mut self.channels,
            Of::Patterns => &mut self.patterns,
        }
    }
}
