use std::fmt;

use bytes::Bytes;

use super::Violation;
use super::checker::{Checked, check};
use crate::engine::{Batch, Entry, EntryPayload, MembersChanged};
use crate::machine::Applier;
use crate::snapshot::Snapshot;
use crate::wire::codec;
use crate::wire::entry::BatchKind;
use crate::wire::types::{Ballot, Digest, Nonce, Origin, Position};
use crate::{Incarnation, Index, ReplicaId, StateMachine, Timestamp};

/// Log time between two entries, in milliseconds.
const PACE_MS: u64 = 100;
/// Commands after which one incarnation of a replica leaves and the next one joins.
const RUN_COMMANDS: u64 = 20;
/// Number of replicas that propose in turn.
const REPLICAS: u64 = 3;

/// Checks that a state machine is deterministic and that its snapshots are complete: two machines
/// that apply the same commands must return the same outputs and write the same snapshots. A
/// snapshot is taken after every command and restored, alternately into a new machine and over an
/// older state; the restored machine must behave the same as well.
///
/// The commands are applied one after the other, 100 ms of log time apart, as if three replicas
/// proposed them in turn. The replicas leave from time to time and return as new incarnations. The
/// machine is woken at the times that it asks for. Each command costs several snapshots, so a
/// thousand commands on a small state are a reasonable size.
///
/// # Errors
///
/// Names the first command after which the machines differ, and the difference.
pub fn check_determinism<M>(
    new: impl Fn() -> M,
    commands: impl IntoIterator<Item = M::Command>,
) -> Result<(), Violation>
where
    M: StateMachine<Output: PartialEq + fmt::Debug>,
{
    let [mut first, mut second, mut restored] = [(); 3].map(|()| Applier::new(new()));
    // The state two commands ago, which the next snapshot replaces.
    let mut older = Applier::new(new());
    let joined = (0..REPLICAS).map(|replica| run_of(replica, 0)).collect();
    let all = MembersChanged { joined, left: Vec::new() };
    for machine in [&mut first, &mut second, &mut restored, &mut older] {
        apply(machine, 0, EntryPayload::Notice(all.clone()))?;
    }
    for (index, command) in (1..).zip(commands) {
        let (batch, change) = entries_of(index, &command)?;
        if let Some(change) = change {
            for machine in [&mut first, &mut second, &mut restored] {
                apply(machine, index, EntryPayload::Notice(change.clone()))?;
            }
        }
        // Encoded once and decoded by each machine, as in a group.
        let payload = EntryPayload::Batch(batch);
        let output = answer(&mut first, index, payload.clone())?;
        let again = answer(&mut second, index, payload.clone())?;
        check(output == again, || {
            format!("command {index} returns {output:?} at one machine and {again:?} at another")
        })?;
        let after = answer(&mut restored, index, payload)?;
        check(output == after, || {
            format!("command {index} returns {output:?}, but {after:?} after a snapshot")
        })?;
        let state = written(&first)?;
        check(state == written(&second)?, || {
            format!("after command {index} two machines write different snapshots")
        })?;
        check(state == written(&restored)?, || {
            format!("after command {index} a restored machine writes a different snapshot")
        })?;
        let next = if index % 2 == 0 { Applier::new(new()) } else { older };
        older = std::mem::replace(&mut restored, next);
        let from = &mut &state[..];
        restored
            .restore(from)
            .map_err(|error| Violation(format!("the snapshot at {index}: {error}")))?;
        check(from.is_empty(), || {
            format!("restore left {} bytes of the snapshot at {index} unread", from.len())
        })?;
    }
    Ok(())
}

/// Returns the incarnation of `replica` at the command with this index.
fn run_of(replica: u64, index: u64) -> Incarnation {
    let nonce = Nonce((index + replica * RUN_COMMANDS / REPLICAS) / RUN_COMMANDS);
    Incarnation { replica: ReplicaId(replica as u32 + 1), nonce }
}

/// Returns the batch of a command, and the membership change before it, if there is one.
fn entries_of<C: serde::Serialize>(
    index: u64,
    command: &C,
) -> Checked<(Batch, Option<MembersChanged>)> {
    let encoded = codec::encode(command)
        .map_err(|error| Violation(format!("command {index} does not encode: {error}")))?;
    let Incarnation { replica, nonce } = run_of(index % REPLICAS, index);
    let mut commands = (encoded.len() as u32).to_le_bytes().to_vec();
    commands.extend(encoded);
    let batch = Batch {
        origin: Origin { replica, counter: nonce.0 + 1, nonce },
        number: index,
        kind: BatchKind::Application,
        count: 1,
        commands: Bytes::from(commands),
    };
    let runs = |index| (0..REPLICAS).map(move |replica| run_of(replica, index));
    let changed: Vec<_> = runs(index - 1).zip(runs(index)).filter(|(a, b)| a != b).collect();
    let (left, joined): (Vec<_>, Vec<_>) = changed.into_iter().unzip();
    Ok((batch, (!left.is_empty()).then_some(MembersChanged { joined, left })))
}

fn answer<M: StateMachine>(
    machine: &mut Applier<M>,
    index: u64,
    payload: EntryPayload,
) -> Checked<M::Output> {
    let answer = apply(machine, index, payload)?;
    answer.ok_or_else(|| Violation(format!("command {index} returned no output")))
}

/// Applies a payload and returns the output if it is a command.
fn apply<M: StateMachine>(
    machine: &mut Applier<M>,
    index: u64,
    payload: EntryPayload,
) -> Checked<Option<M::Output>> {
    let position = Position { epoch: Ballot::default(), index: Index(index) };
    let time = Timestamp(1_000_000 + index * PACE_MS);
    let entry = Entry::new(Digest::default(), position, time, payload);
    let mut answer = None;
    machine.apply(&entry, |output| answer = Some(output)).map_err(Violation)?;
    Ok(answer)
}

fn written<M: StateMachine>(applier: &Applier<M>) -> Checked<Vec<u8>> {
    let mut bytes = Vec::new();
    let written = applier.machine().snapshot().write(&mut bytes);
    written.map_err(|error| Violation(format!("a snapshot cannot be written: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Context;

    /// A counter whose snapshot lacks a field.
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
    fn state_missing_from_the_snapshot_is_detected() {
        assert_eq!(check_determinism(Counter::default, [1, 2, 3]), Ok(()));
        let found = check_determinism(Counter::default, [1, 2, 300]).unwrap_err();
        assert_eq!(found.0, "command 3 returns 303, but 300 after a snapshot");
    }

    #[test]
    fn machines_with_different_initial_states_are_detected() {
        let next = std::cell::Cell::new(0);
        let new = || {
            next.set(next.get() + 1);
            Counter { sum: next.get(), forgotten: 0 }
        };
        let found = check_determinism(new, [1]).unwrap_err();
        assert_eq!(found.0, "command 1 returns 2 at one machine and 3 at another");
    }

    /// Remembers the proposers that are still members. If `adds` is set, `restore` adds to the old
    /// state instead of replacing it.
    #[derive(Clone, Default)]
    struct Guests {
        proposers: Vec<u64>,
        adds: bool,
    }

    impl StateMachine for Guests {
        type Command = ();
        type Output = usize;
        type Snapshot = Vec<u64>;

        fn apply(&mut self, context: &Context, (): ()) -> usize {
            let nonce = context.proposer().unwrap().nonce.0;
            self.proposers.push(nonce);
            self.proposers.len()
        }

        fn members_changed(&mut self, _: &Context, change: &MembersChanged) {
            for run in &change.left {
                self.proposers.retain(|nonce| *nonce != run.nonce.0);
            }
        }

        fn snapshot(&self) -> Vec<u64> {
            self.proposers.clone()
        }

        fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
            if !self.adds {
                self.proposers.clear();
            }
            self.proposers.extend(crate::snapshot::read::<Vec<u64>>(from)?);
            Ok(())
        }
    }

    #[test]
    fn proposers_join_and_leave_and_restore_must_replace_the_old_state() {
        assert_eq!(check_determinism(Guests::default, [(); 100]), Ok(()));
        let adds = || Guests { adds: true, ..Guests::default() };
        let found = check_determinism(adds, [(); 100]).unwrap_err();
        assert!(found.0.contains("after a snapshot"), "{found}");
    }
}
