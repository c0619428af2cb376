use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use plainsong_storage::LogStore;

use super::{Feedback, Shared};
use crate::engine::Op;
use crate::record;
use crate::types::Index;

/// What the engine wants done with the log, in order.
pub(crate) enum ToLog {
    /// A write.
    Write { ticket: u64, ops: Vec<Op> },
    /// Entries are to be read, from the first on, up to so many bytes.
    Read { first: Index, bytes_max: usize },
}

/// Owns the log store. Writes are done first in, first out, so a report that waits for
/// its ticket is behind every earlier write (rule P3); all that wait share one sync.
pub(crate) struct LogThread {
    store: Box<dyn LogStore>,
    inbox: Receiver<ToLog>,
    feedback: Sender<Feedback>,
    shared: Arc<Shared>,
}

impl LogThread {
    pub(crate) fn new(
        store: Box<dyn LogStore>,
        inbox: Receiver<ToLog>,
        feedback: Sender<Feedback>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { store, inbox, feedback, shared }
    }

    pub(crate) fn run(mut self) {
        let mut next = None;
        while let Some(work) = next.take().or_else(|| self.inbox.recv().ok()) {
            let feedback = match work {
                ToLog::Write { mut ticket, mut ops } => {
                    loop {
                        match self.inbox.try_recv() {
                            Ok(ToLog::Write { ticket: later, ops: more }) => {
                                ticket = later;
                                ops.extend(more);
                            }
                            other => {
                                next = other.ok();
                                break;
                            }
                        }
                    }
                    self.write(ticket, ops)
                }
                ToLog::Read { first, bytes_max } => self.read(first, bytes_max),
            };
            let failed = matches!(feedback, Feedback::WriteFailed(_) | Feedback::LogUnreadable(_));
            if self.feedback.send(feedback).is_err() {
                return;
            }
            self.shared.wake();
            if failed {
                return;
            }
        }
    }

    fn write(&mut self, ticket: u64, ops: Vec<Op>) -> Feedback {
        let records: Result<Vec<_>, _> = ops.into_iter().map(record::encode).collect();
        let written = records
            .map_err(|error| error.to_string())
            .and_then(|records| self.store.write(records).map_err(|error| error.to_string()));
        match written {
            Ok(()) => Feedback::Written(ticket),
            Err(reason) => Feedback::WriteFailed(reason),
        }
    }

    fn read(&mut self, first: Index, bytes_max: usize) -> Feedback {
        match record::read(&mut *self.store, first, bytes_max) {
            Ok(entries) => Feedback::LogRead(entries),
            Err(reason) => Feedback::LogUnreadable(reason),
        }
    }
}
