use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use plainsong::{Feed, Index, News, Watcher};

use crate::limits::{CHANGED_KEY_BYTES_MAX, CHANGES_MAX, ENTRY_BYTES, MESSAGES_BYTES_MAX};
use crate::listening::Listening;

/// A view of the store that the server reads directly, without a query: its size, and the changes
/// of keys. Clones are views of the same store.
#[derive(Clone, Debug)]
pub struct View(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    changes: Feed<Item>,
    /// Number of [`Changes`]. While it is 0, changes are not recorded and cost nothing.
    listeners: AtomicUsize,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    /// Number of keys that have expired since the start.
    expired: AtomicU64,
    messages: Mutex<Messages>,
    listening: Listening,
}

/// An item of the feed. Messages are held by weak references, because they may be long:
/// [`Messages`] owns them and limits their total size.
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

/// A notice to subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A key has changed.
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
    /// The content.
    pub payload: Bytes,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The kind of change.
    pub event: KeyEvent,
    /// The key.
    pub key: Bytes,
}

/// Kinds of changes, named as in Redis's keyspace notifications.
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
    /// Returns Redis's name of the event.
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

/// Receives every change from its creation on, in log order.
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
    /// Returns the approximate size of the store in bytes, as of the last applied command.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Returns the maximum of [`bytes`](Self::bytes) since the start.
    pub(crate) fn bytes_peak(&self) -> u64 {
        self.0.bytes_peak.load(Ordering::Relaxed)
    }

    /// Subscribes to all changes from now on.
    pub fn changes(&self) -> Changes {
        self.0.listeners.fetch_add(1, Ordering::SeqCst);
        Changes { view: self.clone(), watcher: self.0.changes.watch() }
    }

    pub(crate) fn holds(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        // Only the thread that changes the store writes the peak, so this cannot race.
        if bytes > self.0.bytes_peak.load(Ordering::Relaxed) {
            self.0.bytes_peak.store(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn report(&self, index: Index, event: KeyEvent, key: &Bytes) {
        if event == KeyEvent::Expired {
            self.0.expired.fetch_add(1, Ordering::Relaxed);
        }
        if self.has_listeners() && key.len() <= CHANGED_KEY_BYTES_MAX {
            self.0.changes.push(index, Item::Change(Change { event, key: key.clone() }));
        }
    }

    /// Sends a message to the subscribers at this server.
    pub(crate) fn publish(&self, index: Index, channel: Bytes, payload: Bytes) {
        if self.has_listeners() {
            let message = Arc::new(Message { channel, payload });
            let weak = Arc::downgrade(&message);
            self.messages(|messages| messages.keep(message));
            self.0.changes.push(index, Item::Message(weak));
        }
    }

    /// Reports that all keys were deleted: too many for a notice each.
    pub(crate) fn clear(&self, index: Index) {
        if self.has_listeners() {
            self.0.changes.push(index, Item::Cleared);
        }
    }

    /// Returns the number of keys that have expired since the start.
    pub(crate) fn expired(&self) -> u64 {
        self.0.expired.load(Ordering::Relaxed)
    }

    /// Returns the subscriber counts.
    pub(crate) fn listening(&self) -> &Listening {
        &self.0.listening
    }

    fn has_listeners(&self) -> bool {
        self.0.listeners.load(Ordering::SeqCst) > 0
    }

    /// Changes the messages under their lock. Poisoning is ignored: no panic under the lock can
    /// leave them inconsistent.
    fn messages(&self, change: impl FnOnce(&mut Messages)) {
        change(&mut self.0.messages.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reports that the state was replaced by a snapshot, so the changes in between are unknown.
    /// Subscribers then see the end of their notices.
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
    /// Waits for the next notice. Returns `None` if some notices were missed, or if the feed has
    /// ended.
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
