use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use plainsong::Incarnation;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Name;
use crate::command::{Loss, SessionEvent, SessionId, Token};

/// The sessions of this server: where what happens to them is told.
pub(super) struct Sessions {
    server: Incarnation,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    sessions: BTreeMap<u64, UnboundedSender<SessionNotice>>,
}

/// What a connection is told about its session. A session has few claims, and takes its
/// notices before it makes more, so there are never many of them.
#[derive(Clone, Debug)]
pub(super) enum SessionNotice {
    Granted(Name, Token),
    TimedOut(Name),
    Lost(Name, Loss),
    /// What the session holds can no longer be relied on.
    InDoubt(&'static str),
    /// The session is over.
    Over(&'static str),
}

impl Sessions {
    pub(super) fn new(server: Incarnation) -> Self {
        Self { server, table: Mutex::default() }
    }

    /// A new session, with a number that was never used.
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

    /// Tells what the state machine says to whom it concerns.
    pub(super) fn take(&self, event: SessionEvent) {
        match event {
            SessionEvent::Granted { session, name, token } => {
                self.tell(session, SessionNotice::Granted(name, token));
            }
            SessionEvent::TimedOut { session, name } => {
                self.tell(session, SessionNotice::TimedOut(name))
            }
            SessionEvent::Lost { session, name, why } => {
                self.tell(session, SessionNotice::Lost(name, why))
            }
            SessionEvent::Dismissed(server) if server == self.server => {
                self.tell_all(&SessionNotice::Over("the group has gone on without this server"));
            }
            SessionEvent::Dismissed(_) => {}
            SessionEvent::Restored => {
                self.tell_all(&SessionNotice::Over("this server was too far behind the group"));
            }
        }
    }

    pub(super) fn tell_all(&self, notice: &SessionNotice) {
        for session in self.table().sessions.values() {
            // One that does not hear it is closing.
            let _ = session.send(notice.clone());
        }
    }

    fn tell(&self, session: SessionId, notice: SessionNotice) {
        if session.server != self.server {
            return;
        }
        if let Some(session) = self.table().sessions.get(&session.number) {
            let _ = session.send(notice);
        }
    }

    /// Nothing that is done under the lock can leave it half done.
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
