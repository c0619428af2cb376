use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use plainsong_storage::LogStore;

use super::{Shared, ThreadEvent};
use crate::engine::{Entry, Op};
use crate::record;
use crate::wire::types::Index;

/// A command of the group thread for the log thread. Commands run in order.
pub(crate) enum LogCommand {
    /// Writes durably; answered by [`LogEvent::Written`].
    Write { ticket: u64, ops: Vec<Op> },
    /// Reads entries from `first` on, up to `bytes_max` bytes; answered by [`LogEvent::Read`].
    Read { first: Index, bytes_max: usize },
}

/// A report of the log thread to the group thread.
pub(crate) enum LogEvent {
    /// The write with this ticket, and all writes before it, are durable.
    Written(u64),
    WriteFailed(String),
    /// Entries of the store, from the requested index on.
    Read(Vec<Entry>),
    Unreadable(String),
}

/// The thread that owns the log store. It writes in the order of the commands, so when the ticket
/// of a report is confirmed, every earlier write is durable, too (rule P3). All waiting writes
/// share one sync.
pub(crate) struct LogThread {
    store: Box<dyn LogStore>,
    commands: Receiver<LogCommand>,
    events: Sender<ThreadEvent>,
    shared: Arc<Shared>,
}

impl LogThread {
    pub(crate) fn new(
        store: Box<dyn LogStore>,
        commands: Receiver<LogCommand>,
        events: Sender<ThreadEvent>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { store, commands, events, shared }
    }

    pub(crate) fn run(mut self) {
        let mut next = None;
        while let Some(command) = next.take().or_else(|| self.commands.recv().ok()) {
            let event = match command {
                LogCommand::Write { mut ticket, mut ops } => {
                    loop {
                        match self.commands.try_recv() {
                            Ok(LogCommand::Write { ticket: later, ops: more }) => {
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
                LogCommand::Read { first, bytes_max } => self.read(first, bytes_max),
            };
            let failed = matches!(event, LogEvent::WriteFailed(_) | LogEvent::Unreadable(_));
            if self.events.send(ThreadEvent::Log(event)).is_err() {
                return;
            }
            self.shared.wake();
            if failed {
                return;
            }
        }
    }

    fn write(&mut self, ticket: u64, ops: Vec<Op>) -> LogEvent {
        let records: Result<Vec<_>, _> = ops.into_iter().map(record::encode).collect();
        let written = records
            .map_err(|error| error.to_string())
            .and_then(|records| self.store.write(records).map_err(|error| error.to_string()));
        match written {
            Ok(()) => LogEvent::Written(ticket),
            Err(reason) => LogEvent::WriteFailed(reason),
        }
    }

    fn read(&mut self, first: Index, bytes_max: usize) -> LogEvent {
        match record::read(&mut *self.store, first, bytes_max) {
            Ok(entries) => LogEvent::Read(entries),
            Err(reason) => LogEvent::Unreadable(reason),
        }
    }
}
