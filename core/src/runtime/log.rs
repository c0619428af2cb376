use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use plainsong_storage::{LogStore, Op as StoreOp, Record};
use serde::Serialize;

use super::{Feedback, Shared};
use crate::codec;
use crate::engine::Op;
use crate::entry::{Entry, EntryHead};
use crate::types::Digest;

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
        while let Ok(Write { mut ticket, ops }) = self.inbox.recv() {
            let mut records = Vec::with_capacity(ops.len());
            let mut encoded = encode_all(ops, &mut records);
            while let Ok(next) = self.inbox.try_recv() {
                ticket = next.ticket;
                encoded = encoded.and_then(|()| encode_all(next.ops, &mut records));
            }
            let written = encoded
                .map_err(|error| error.to_string())
                .and_then(|()| self.store.write(records).map_err(|error| error.to_string()));
            let failed = written.is_err();
            let feedback = match written {
                Ok(()) => Feedback::Written(ticket),
                Err(reason) => Feedback::WriteFailed(reason),
            };
            if self.feedback.send(feedback).is_err() || failed {
                return;
            }
            self.shared.wake();
        }
    }
}

fn encode_all(ops: Vec<Op>, into: &mut Vec<StoreOp>) -> Result<(), bincode::Error> {
    for op in ops {
        into.push(match op {
            Op::Facts(facts) => StoreOp::Facts(codec::encode(&facts)?.into()),
            Op::Append(entry) => StoreOp::Append(record(entry)?),
            Op::Cut(after) => StoreOp::Cut(after.0),
            Op::Compact(through) => StoreOp::Compact(through.0),
        });
    }
    Ok(())
}

/// How an entry stands in the log; its index is the record's.
#[derive(Serialize)]
struct LogHead {
    entry: EntryHead,
    digest: Digest,
}

fn record(entry: Entry) -> Result<Record, bincode::Error> {
    let head = LogHead { entry: EntryHead::of(&entry), digest: entry.digest };
    let head = codec::encode(&head)?.into();
    Ok(Record { index: entry.position.index.0, head, body: entry.content.commands() })
}
