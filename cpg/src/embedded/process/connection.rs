use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use super::ring_state::{ConnectionId, SharedRing};
use crate::connection::Backend;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::mailbox::Mailbox;
use crate::{Error, GroupEntry, GroupName, Iteration, Member, Result};

/// A connection to a [`LocalRing`](super::LocalRing).
pub(super) struct LocalConnection {
    ring: SharedRing,
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
}

impl LocalConnection {
    pub(super) fn new(ring: SharedRing, id: ConnectionId, mailbox: Arc<Mailbox>) -> Self {
        Self { ring, id, mailbox }
    }
}

impl Backend for LocalConnection {
    fn join(&self, group: &GroupName) -> Result<()> {
        self.ring.lock().join(self.id, group)
    }

    fn leave(&self) -> Result<()> {
        self.ring.lock().leave(self.id)
    }

    fn multicast(&self, message: &[IoSlice<'_>]) -> Result<()> {
        if !self.mailbox.may_send() {
            // `NotExist` takes precedence: a retry would not help.
            return self.ring.lock().check(self.id).and(Err(Error::TryAgain));
        }
        let message = gather(message);
        self.ring.lock().multicast(self.id, message)
    }

    fn local(&self) -> Member {
        self.mailbox.member()
    }

    fn members(&self, group: &GroupName) -> Result<Vec<Member>> {
        let ring = self.ring.lock();
        if ring.is_connected(self.id) { Ok(ring.members(group)) } else { Err(Error::Library) }
    }

    fn groups(&self, iteration: &Iteration) -> Result<Vec<GroupEntry>> {
        let ring = self.ring.lock();
        if ring.is_connected(self.id) { Ok(ring.groups(iteration)) } else { Err(Error::Library) }
    }

    fn max_atomic_message_size(&self) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Drop for LocalConnection {
    fn drop(&mut self) {
        self.ring.lock().disconnect(self.id);
    }
}

/// Concatenates the slices. This is the only copy of a message.
fn gather(message: &[IoSlice<'_>]) -> Bytes {
    match message {
        [] => Bytes::new(),
        [slice] => Bytes::copy_from_slice(slice),
        slices => {
            let mut whole = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
            for slice in slices {
                whole.extend_from_slice(slice);
            }
            whole.into()
        }
    }
}
