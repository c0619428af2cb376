//! Sending of this replica's commands in batches, and resending of batches that had no effect
//! (rules N1 and N10).

use crate::engine::{Config, Engine, Output, StepResult};
use crate::wire::entry::{Batch, EntryPayload};
use crate::wire::message::Message;

impl<T> Engine<T> {
    /// Sends the batches that are due (rule N1). A bounded number is in flight; meanwhile the next
    /// batch is filled until it is worth a message. So batches grow with load, and a lone command
    /// is sent at once.
    pub(crate) fn send_batches(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        let Config { batch_bytes_max, batches_in_flight_max, .. } = self.config;
        // A lone voter commits before its batches are sent, so the limit in flight does not bound
        // it; the outbox does.
        while self.is_in_sync()
            && self.proposals.is_due(batch_bytes_max, batches_in_flight_max)
            && self.outbox.has_room()
        {
            let Some(batch) = self.proposals.fill(batch_bytes_max, self.now.monotonic) else {
                break;
            };
            self.send_batch(batch, out)?;
        }
        Ok(())
    }

    /// Sends a batch. The sequencer orders its own batch here, when it hands it to the transport;
    /// the batch carries the marks for all entries before it and for itself (rule N4).
    fn send_batch(&mut self, batch: Batch, out: &mut Vec<Output<T>>) -> StepResult {
        if self.may_order() && self.log.is_next(&batch.origin, batch.number) {
            self.order(EntryPayload::Batch(batch.clone()));
            self.write(out)?;
        }
        let progress = self.progress();
        out.push(Output::Send(Message::Batch(batch, Some(progress))));
        Ok(())
    }

    /// At a tick: answers callers whose deadline has passed. Commands never sent are withdrawn and
    /// will not take effect.
    pub(crate) fn expire_proposals(&mut self, out: &mut Vec<Output<T>>) {
        let (unsent, unknown) = self.proposals.expire(self.now.monotonic);
        if !unsent.is_empty() {
            out.push(Output::Fail { tickets: unsent, may_take_effect: false });
        }
        if !unknown.is_empty() {
            out.push(Output::Fail { tickets: unknown, may_take_effect: true });
        }
    }

    /// Sends again, in order, the batches that have had no effect in time.
    pub(crate) fn resend_batches(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        if !self.is_in_sync() {
            return Ok(());
        }
        self.proposals.note_ordered(&self.log);
        let timeout = self.config.resend_timeout;
        let again = self.proposals.overdue(self.now.monotonic, timeout, &self.outbox);
        again.into_iter().try_for_each(|batch| self.send_batch(batch, out))
    }
}
