use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use plainsong::Incarnation;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Name;
use crate::command::{Loss, SessionEvent, SessionId, Token};

/// The open sessions of this server, with a channel of notices for each.
pub(super) struct Sessions {
    server: Incarnation,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    sessions: BTreeMap<u64, UnboundedSender<SessionNotice>>,
}

/// A notice to a connection about its session. The channel is unbounded, but stays short: a session
/// has a limited number of claims, and takes its notices before it makes more claims.
#[derive(Clone, Debug)]
pub(super) enum SessionNotice {
    Granted(Name, Token),
    TimedOut(Name),
    Lost(Name, Loss),
    /// The locks that the session holds can no longer be relied on.
    InDoubt(&'static str),
    /// The session is over.
    Over(&'static str),
}

impl Sessions {
    pub(super) fn new(server: Incarnation) -> Self {
        Self { server, table: Mutex::default() }
    }

    /// Opens a session with a number that was never used before.
    pub(super) fn open(&self) -> (u64, UnboundedReceiver<SessionNotice>) {
        let (sender, notices) = unbounded_channel();
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        table.sessions.insert(number, sender);
        (number, notices)
    }

    pub(super) fn close(&self, number: u64) {
        self.table().sessions.remove(&number);
    }

    /// Forwards an event of the state machine to the sessions that it concerns.
    pub(super) fn dispatch(&self, event: SessionEvent) {
        match event {
            SessionEvent::Granted { session, name, token } => {
                self.notify(session, SessionNotice::Granted(name, token));
            }
            SessionEvent::TimedOut { session, name } => {
                self.notify(session, SessionNotice::TimedOut(name))
            }
            SessionEvent::Lost { session, name, why } => {
                self.notify(session, SessionNotice::Lost(name, why))
            }
            SessionEvent::Dismissed(server) if server == self.server => {
                self.notify_all(&SessionNotice::Over(
                    "the group has continued without this server",
                ));
            }
            SessionEvent::Dismissed(_) => {}
            SessionEvent::Restored => {
                self.notify_all(&SessionNotice::Over(
                    "this server lagged too far and had to restore a snapshot",
                ));
            }
        }
    }

    pub(super) fn notify_all(&self, notice: &SessionNotice) {
        for session in self.table().sessions.values() {
            // An error means that the connection is closing.
            let _ = session.send(notice.clone());
        }
    }

    fn notify(&self, session: SessionId, notice: SessionNotice) {
        if session.server != self.server {
            return;
        }
        if let Some(session) = self.table().sessions.get(&session.number) {
            let _ = session.send(notice);
        }
    }

    /// Locks the table. A poisoned lock is used anyway: a panic cannot leave the table half
    /// changed.
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
