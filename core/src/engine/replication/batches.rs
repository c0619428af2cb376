//! Sending this replica's commands in batches, and again where they had no effect (rules N1 and N10).

use crate::engine::{Config, Engine, Output, StepResult};
use crate::wire::entry::{Batch, EntryPayload};
use crate::wire::message::Message;

impl<T> Engine<T> {
    /// Rule N1: a bounded number of batches is under way, and the next is filled meanwhile
    /// until it is worth a message; so batches grow with load, and a lone command goes at
    /// once.
    pub(crate) fn send_batches(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        let Config { batch_bytes_max, batches_in_flight_max, .. } = self.config;
        // A lone voter commits what it has not sent yet, so what is in flight is no bound for it.
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

    /// Rule N4: the sequencer positions its own batch when it hands it over to be sent;
    /// the batch carries the marks for all before it and for itself.
    fn send_batch(&mut self, batch: Batch, out: &mut Vec<Output<T>>) -> StepResult {
        if self.may_order() && self.log.is_next(&batch.origin, batch.number) {
            self.order(EntryPayload::Batch(batch.clone()));
            self.write(out)?;
        }
        let progress = self.progress();
        out.push(Output::Send(Message::Batch(batch, Some(progress))));
        Ok(())
    }

    /// At a tick: whose time is over is answered. What was never sent never will be.
    pub(crate) fn expire_proposals(&mut self, out: &mut Vec<Output<T>>) {
        let (unsent, unknown) = self.proposals.expire(self.now.monotonic);
        if !unsent.is_empty() {
            out.push(Output::Fail { tickets: unsent, may_take_effect: false });
        }
        if !unknown.is_empty() {
            out.push(Output::Fail { tickets: unknown, may_take_effect: true });
        }
    }

    /// Sends again, in order, what has had no effect for a while.
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
