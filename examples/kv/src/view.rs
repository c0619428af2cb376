use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use plainsong::{Feed, Index, News, Watcher};

use crate::limits::{CHANGED_KEY_BYTES_MAX, CHANGES_MAX};

/// What a server sees of its store without asking: how much it holds, and what changes.
/// Clones are views of the same store.
#[derive(Clone, Debug)]
pub struct View(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    changes: Feed<Change>,
    /// Nothing is told while nobody listens, so that it costs nothing.
    listeners: AtomicUsize,
    bytes: AtomicU64,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub event: Event,
    /// Which key.
    pub key: Bytes,
}

/// What can happen to a key, by the names of Redis's keyspace notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Append,
    Del,
    Expire,
    Expired,
    IncrBy,
    Persist,
    Set,
    SetRange,
}

impl Event {
    /// As Redis calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Del => "del",
            Self::Expire => "expire",
            Self::Expired => "expired",
            Self::IncrBy => "incrby",
            Self::Persist => "persist",
            Self::Set => "set",
            Self::SetRange => "setrange",
        }
    }
}

/// Hears every change from some moment on, in order, until it is dropped.
#[derive(Debug)]
pub struct Changes {
    view: View,
    watcher: Watcher<Change>,
}

impl Default for View {
    fn default() -> Self {
        Self(Arc::new(Shared {
            changes: Feed::new(CHANGES_MAX),
            listeners: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        }))
    }
}

impl View {
    /// About how many bytes the store holds, as of the last command.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Hears what changes from now on.
    pub fn changes(&self) -> Changes {
        self.0.listeners.fetch_add(1, Ordering::SeqCst);
        Changes { view: self.clone(), watcher: self.0.changes.watch() }
    }

    pub(crate) fn holds(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, index: Index, event: Event, key: &Bytes) {
        if self.0.listeners.load(Ordering::SeqCst) > 0 && key.len() <= CHANGED_KEY_BYTES_MAX {
            self.0.changes.push(index, Change { event, key: key.clone() });
        }
    }

    /// The store has another state, and nobody knows what happened on the way to it.
    pub(crate) fn jump(&self) {
        self.0.changes.jump();
    }
}

impl Changes {
    /// What happened next. `None`: some of it was missed, or there is no more.
    pub async fn next(&mut self) -> Option<Change> {
        match self.watcher.next().await {
            Some(News::Item(_, change)) => Some(change),
            Some(News::Missed(_)) | None => None,
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.view.0.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}
