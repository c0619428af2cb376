//! Applies transactions.

use plainsong::Timestamp;

use super::KvStore;
use crate::command::{Output, Refusal, Step, Transaction};
use crate::limits::REPLY_BYTES_MAX;

impl KvStore {
    /// Applies all steps, or none if a watched key has changed.
    ///
    /// The total size of the values returned is limited. Once it exceeds the limit, each further
    /// step that could return a value is rejected and changes nothing.
    pub(super) fn transact(&mut self, transaction: Transaction) -> Output {
        let Transaction { watched, steps } = transaction;
        if watched.into_iter().any(|(key, version)| self.version_of(key) != version) {
            return Output::Transaction(None);
        }
        let mut outputs = Vec::with_capacity(steps.len());
        let mut bytes = 0;
        for step in steps {
            let output = if bytes > REPLY_BYTES_MAX && step.answers_values() {
                Output::Refused(Refusal::ReplyTooLong)
            } else {
                match step {
                    Step::Write(command) => self.write(command),
                    // Log time, because all replicas must return the same.
                    Step::Read(query) => self.answer(query, Timestamp(self.now)),
                }
            };
            bytes += output.bytes();
            outputs.push(output);
        }
        Output::Transaction(Some(outputs))
    }
}
