//! Several steps at one place of the log.

use plainsong::Timestamp;

use super::KvStore;
use crate::command::{Output, Refusal, Step, Transaction};
use crate::limits::REPLY_BYTES_MAX;

impl KvStore {
    /// Carries out all steps, or nothing if a watched key is not as it was.
    ///
    /// What the steps answer is limited together: those that could answer more values behind
    /// the limit are refused, each by itself, and change nothing.
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
                    // The only time that all replicas agree on.
                    Step::Read(query) => self.answer(query, Timestamp(self.now)),
                }
            };
            bytes += output.bytes();
            outputs.push(output);
        }
        Output::Transaction(Some(outputs))
    }
}
