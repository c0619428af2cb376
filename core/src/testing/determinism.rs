use std::fmt;

use super::Violation;
use super::checker::{Checked, check};
use crate::codec;
use crate::snapshot::Snapshot;
use crate::{Context, Index, StateMachine, Timestamp};

/// Whether a state machine is what replicas need: applied twice it answers the same and has
/// the same state; and it goes on the same after a snapshot was taken and restored, between
/// any two commands.
///
/// The commands are applied one after the other, a tenth of a second of log time apart, and
/// the machine is woken where it asks for it.
///
/// # Errors
///
/// Where the machines differ, and how.
pub fn check_determinism<M>(
    new: impl Fn() -> M,
    commands: impl IntoIterator<Item = M::Command>,
) -> Result<(), Violation>
where
    M: StateMachine<Output: PartialEq + fmt::Debug>,
{
    let (mut first, mut second, mut restored) = (new(), new(), new());
    for (index, command) in (1..).zip(commands) {
        // As replicas get it: encoded once, decoded at each.
        let encoded = codec::encode(&command)
            .map_err(|error| Violation(format!("command {index} does not encode: {error}")))?;
        let context = Context::new(Index(index), Timestamp(1_000_000 + index * 100));
        let output = apply(&mut first, &context, &encoded)?;
        let again = apply(&mut second, &context, &encoded)?;
        check(output == again, || {
            format!("command {index} answers {output:?} once and {again:?} once")
        })?;
        let after = apply(&mut restored, &context, &encoded)?;
        check(output == after, || {
            format!("command {index} answers {output:?}, and {after:?} behind a snapshot")
        })?;
        let state = written(&first)?;
        check(state == written(&second)?, || {
            format!("after command {index} two machines write different snapshots")
        })?;
        check(state == written(&restored)?, || {
            format!("after command {index} a restored machine writes another snapshot")
        })?;
        restored = new();
        let from = &mut &state[..];
        restored
            .restore(from)
            .map_err(|error| Violation(format!("the snapshot at {index}: {error}")))?;
        check(from.is_empty(), || {
            format!("{} bytes of the snapshot at {index} were not read", from.len())
        })?;
    }
    Ok(())
}

fn apply<M: StateMachine>(
    machine: &mut M,
    context: &Context,
    command: &[u8],
) -> Checked<M::Output> {
    if machine.wake_at().is_some_and(|at| at <= context.time()) {
        machine.wake(context);
    }
    let command = codec::decode(command)
        .map_err(|error| Violation(format!("a command does not decode: {error}")))?;
    Ok(machine.apply(context, command))
}

fn written<M: StateMachine>(machine: &M) -> Checked<Vec<u8>> {
    let mut bytes = Vec::new();
    let written = machine.snapshot().write(&mut bytes);
    written.map_err(|error| Violation(format!("a snapshot cannot be written: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    /// Counts, in one of several wrong ways.
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Counter {
        sum: u64,
        #[serde(skip)]
        forgotten: u64,
    }

    impl StateMachine for Counter {
        type Command = u64;
        type Output = u64;
        crate::snapshot_by_clone!();

        fn apply(&mut self, _: &Context, add: u64) -> u64 {
            self.sum += add;
            self.forgotten += add;
            if add > 100 { self.forgotten } else { self.sum }
        }
    }

    #[test]
    fn state_that_is_missing_in_the_snapshot_is_noticed() {
        assert_eq!(check_determinism(Counter::default, [1, 2, 3]), Ok(()));
        let found = check_determinism(Counter::default, [1, 2, 300]).unwrap_err();
        assert_eq!(found.0, "command 3 answers 303, and 300 behind a snapshot");
    }

    #[test]
    fn machines_that_begin_differently_are_noticed() {
        let next = std::cell::Cell::new(0);
        let new = || {
            next.set(next.get() + 1);
            Counter { sum: next.get(), forgotten: 0 }
        };
        let found = check_determinism(new, [1]).unwrap_err();
        assert_eq!(found.0, "command 1 answers 2 once and 3 once");
    }
}
