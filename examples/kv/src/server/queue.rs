use std::collections::BTreeMap;

use bytes::Bytes;

use crate::View;
use crate::command::{Ask, Command, Output, Proposal, Step, Transaction};
use crate::limits::COMMAND_BYTES_MAX;
use crate::request::{Entry, Fault, Kind, Shape};
use crate::resp::{Reply, error};

/// Upper bound of the encoding overhead of an argument, in bytes.
const ARGUMENT_BYTES: usize = 16;
/// Upper bound of the encoding overhead of a transaction's step, in bytes.
const STEP_BYTES: usize = 32;

/// The requests that a client has queued since `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    steps: Vec<Step>,
    /// Source of each request's reply, in the order of the requests.
    slots: Vec<Slot>,
    bytes: usize,
    /// True if a request could not be queued, so that none will be executed.
    is_aborted: bool,
    /// True if a request may make the store larger.
    pub(super) grows: bool,
}

/// Source of a queued request's reply.
#[derive(Debug)]
pub(super) enum Slot {
    /// The output of the next step.
    Step(Shape),
    /// The number of subscribers of a channel at this server, for a `PUBLISH` step.
    Receivers(Bytes),
    /// A reply that is known already.
    Reply(Reply),
}

/// Returns an upper bound of the encoded size of these arguments, in bytes.
pub(super) fn encoded_bytes_max(arguments: &[Bytes]) -> usize {
    arguments.iter().map(|argument| argument.len() + ARGUMENT_BYTES).sum()
}

impl Queue {
    /// Returns the number of requests queued.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn abort(&mut self) {
        self.is_aborted = true;
    }

    /// Queues a request to the store. If its arguments are invalid, queues the error reply instead,
    /// which becomes part of the reply to `EXEC`, as in Redis.
    pub(super) fn ask(
        &mut self,
        entry: &'static Entry,
        arguments: Vec<Bytes>,
    ) -> Result<(), Fault> {
        self.bytes += encoded_bytes_max(&arguments) + STEP_BYTES;
        if self.bytes > COMMAND_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let Kind::Asked(parse) = entry.kind else { return Err(Fault::NotInTransaction) };
        self.grows |= entry.grows;
        // Copied, because slices would keep the whole input buffer in memory until `EXEC`.
        let arguments = arguments.iter().map(|argument| Bytes::copy_from_slice(argument)).collect();
        let slot = match parse(entry.name, arguments) {
            Ok((Ask::Propose(Proposal::Command(command)), shape)) => {
                let slot = match &command {
                    Command::Publish { channel, .. } => Slot::Receivers(channel.clone()),
                    _ => Slot::Step(shape),
                };
                self.steps.push(Step::Write(command));
                slot
            }
            Ok((Ask::Read(query), shape)) => {
                self.steps.push(Step::Read(query));
                Slot::Step(shape)
            }
            Ok((Ask::Propose(Proposal::Transaction(_)), _)) => return Err(Fault::NotInTransaction),
            Err(fault) => Slot::Reply(error(fault)),
        };
        self.slots.push(slot);
        Ok(())
    }

    /// Queues a reply that does not need the store.
    pub(super) fn reply(&mut self, reply: Reply) -> Result<(), Fault> {
        self.bytes += STEP_BYTES;
        if let Reply::BulkString(text) = &reply {
            self.bytes += text.len();
        }
        if self.bytes > COMMAND_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        self.slots.push(Slot::Reply(reply));
        Ok(())
    }

    /// Returns the transaction, which also checks the watched keys, and the sources of the replies.
    pub(super) fn close(
        self,
        watched: BTreeMap<Bytes, u64>,
    ) -> Result<(Transaction, Vec<Slot>), Fault> {
        if self.is_aborted {
            return Err(Fault::Aborted);
        }
        let bytes: usize = watched.keys().map(|key| key.len() + ARGUMENT_BYTES).sum();
        if self.bytes + bytes > COMMAND_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let watched = watched.into_iter().collect();
        Ok((Transaction { watched, steps: self.steps }, self.slots))
    }
}

/// Returns the reply to `EXEC`.
pub(super) fn executed(slots: Vec<Slot>, output: Output, view: &View) -> Reply {
    let Output::Transaction(Some(outputs)) = output else { return Reply::NullArray };
    let mut outputs = outputs.into_iter();
    let replies = slots.into_iter().map(|slot| match slot {
        Slot::Step(shape) => outputs.next().map_or(Reply::Null, |output| shape.reply(output)),
        Slot::Receivers(channel) => {
            outputs.next();
            receivers(view, &channel)
        }
        Slot::Reply(reply) => reply,
    });
    Reply::Array(replies.collect())
}

/// Returns the reply to `PUBLISH`.
pub(super) fn receivers(view: &View, channel: &[u8]) -> Reply {
    Reply::Integer(view.listening().receivers(channel) as i64)
}
