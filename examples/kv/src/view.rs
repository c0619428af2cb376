use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use plainsong::{Feed, Index, News, Watcher};

use crate::limits::{CHANGED_KEY_BYTES_MAX, CHANGES_MAX, ENTRY_BYTES, MESSAGES_BYTES_MAX};
use crate::listening::Listening;

/// What a server sees of its store without asking: how much it holds, and what changes.
/// Clones are views of the same store.
#[derive(Clone, Debug)]
pub struct View(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    changes: Feed<Item>,
    /// Nothing is told while nobody listens, so that it costs nothing.
    listeners: AtomicUsize,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    /// Keys that have expired since the start.
    expired: AtomicU64,
    messages: Mutex<Messages>,
    listening: Listening,
}

/// What the feed carries. It holds messages weakly, for they may be long: those that are kept
/// for slow clients are bounded by their bytes.
#[derive(Clone, Debug)]
enum Item {
    Change(Change),
    Message(Weak<Message>),
    Cleared,
}

#[derive(Debug, Default)]
struct Messages {
    kept: VecDeque<Arc<Message>>,
    bytes: usize,
}

/// What clients that listen are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something happened to a key.
    Change(Change),
    /// A client has published a message.
    Message(Arc<Message>),
    /// All keys were deleted at once.
    Cleared,
}

/// A message of `PUBLISH`.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel.
    pub channel: Bytes,
    /// What is sent.
    pub payload: Bytes,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub event: KeyEvent,
    /// Which key.
    pub key: Bytes,
}

/// What can happen to a key, by the names of Redis's keyspace notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyEvent {
    Append,
    CopyTo,
    Del,
    Expire,
    Expired,
    IncrBy,
    IncrByFloat,
    Persist,
    RenameFrom,
    RenameTo,
    Set,
    SetRange,
}

impl KeyEvent {
    /// As Redis calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::CopyTo => "copy_to",
            Self::Del => "del",
            Self::Expire => "expire",
            Self::Expired => "expired",
            Self::IncrBy => "incrby",
            Self::IncrByFloat => "incrbyfloat",
            Self::Persist => "persist",
            Self::RenameFrom => "rename_from",
            Self::RenameTo => "rename_to",
            Self::Set => "set",
            Self::SetRange => "setrange",
        }
    }
}

/// Hears every change from some moment on, in order, until it is dropped.
#[derive(Debug)]
pub struct Changes {
    view: View,
    watcher: Watcher<Item>,
}

impl Default for View {
    fn default() -> Self {
        Self(Arc::new(Shared {
            changes: Feed::new(CHANGES_MAX),
            listeners: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            messages: Mutex::default(),
            listening: Listening::default(),
        }))
    }
}

impl View {
    /// About how many bytes the store holds, as of the last command.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// The most bytes that the store held so far.
    pub(crate) fn bytes_peak(&self) -> u64 {
        self.0.bytes_peak.load(Ordering::Relaxed)
    }

    /// Hears what changes from now on.
    pub fn changes(&self) -> Changes {
        self.0.listeners.fetch_add(1, Ordering::SeqCst);
        Changes { view: self.clone(), watcher: self.0.changes.watch() }
    }

    pub(crate) fn holds(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        // Only the thread that changes the store writes it.
        if bytes > self.0.bytes_peak.load(Ordering::Relaxed) {
            self.0.bytes_peak.store(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn tell(&self, index: Index, event: KeyEvent, key: &Bytes) {
        if event == KeyEvent::Expired {
            self.0.expired.fetch_add(1, Ordering::Relaxed);
        }
        if self.has_listeners() && key.len() <= CHANGED_KEY_BYTES_MAX {
            self.0.changes.push(index, Item::Change(Change { event, key: key.clone() }));
        }
    }

    /// Sends a message to the clients of this server that listen to its channel.
    pub(crate) fn publish(&self, index: Index, channel: Bytes, payload: Bytes) {
        if self.has_listeners() {
            let message = Arc::new(Message { channel, payload });
            let weak = Arc::downgrade(&message);
            self.messages(|messages| messages.keep(message));
            self.0.changes.push(index, Item::Message(weak));
        }
    }

    /// All keys were deleted: too many to tell each.
    pub(crate) fn clear(&self, index: Index) {
        if self.has_listeners() {
            self.0.changes.push(index, Item::Cleared);
        }
    }

    /// Returns the number of keys that expired since the start.
    pub(crate) fn expired(&self) -> u64 {
        self.0.expired.load(Ordering::Relaxed)
    }

    /// Returns who listens to which channels.
    pub(crate) fn listening(&self) -> &Listening {
        &self.0.listening
    }

    fn has_listeners(&self) -> bool {
        self.0.listeners.load(Ordering::SeqCst) > 0
    }

    /// Nothing that is done under the lock can leave the messages half changed.
    fn messages(&self, change: impl FnOnce(&mut Messages)) {
        change(&mut self.0.messages.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The store has another state, and nobody knows what happened on the way to it.
    pub(crate) fn jump(&self) {
        self.0.changes.jump();
    }
}

impl Messages {
    fn keep(&mut self, message: Arc<Message>) {
        self.bytes += message.bytes();
        self.kept.push_back(message);
        while self.bytes > MESSAGES_BYTES_MAX
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

impl Message {
    fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + ENTRY_BYTES
    }
}

impl Changes {
    /// What happened next. `None`: some of it was missed, or there is no more.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.watcher.next().await {
            Some(News::Item(_, Item::Change(change))) => Some(Notice::Change(change)),
            Some(News::Item(_, Item::Message(message))) => message.upgrade().map(Notice::Message),
            Some(News::Item(_, Item::Cleared)) => Some(Notice::Cleared),
            Some(News::Lagged(_)) | None => None,
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.view.0.listeners.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.view.messages(|messages| *messages = Messages::default());
        }
    }
}
