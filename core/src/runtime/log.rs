use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use plainsong_storage::LogStore;

use super::{Feedback, Shared};
use crate::engine::Op;
use crate::record;

/// A write as the engine asks for it.
pub(crate) struct Write {
    pub(crate) ticket: u64,
    pub(crate) ops: Vec<Op>,
}

/// Owns the log store. Writes are done first in, first out, so a report that waits for
/// its ticket is behind every earlier write (rule P3); all that wait share one sync.
pub(crate) struct LogThread {
    store: Box<dyn LogStore>,
    inbox: Receiver<Write>,
    feedback: Sender<Feedback>,
    shared: Arc<Shared>,
}

impl LogThread {
    pub(crate) fn new(
        store: Box<dyn LogStore>,
        inbox: Receiver<Write>,
        feedback: Sender<Feedback>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { store, inbox, feedback, shared }
    }

    pub(crate) fn run(mut self) {
        while let Ok(Write { mut ticket, mut ops }) = self.inbox.recv() {
            while let Ok(next) = self.inbox.try_recv() {
                ticket = next.ticket;
                ops.extend(next.ops);
            }
            let records: Result<Vec<_>, _> = ops.into_iter().map(record::encode).collect();
            let written = records
                .map_err(|error| error.to_string())
                .and_then(|records| self.store.write(records).map_err(|error| error.to_string()));
            let failed = written.is_err();
            let feedback = match written {
                Ok(()) => Feedback::Written(ticket),
                Err(reason) => Feedback::WriteFailed(reason),
            };
            if self.feedback.send(feedback).is_err() {
                return;
            }
            self.shared.wake();
            if failed {
                return;
            }
        }
    }
}
