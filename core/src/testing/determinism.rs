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

/// The log time between two entries, in milliseconds.
const PACE_MS: u64 = 100;
/// After so many commands a run of a replica leaves, and the next joins.
const RUN_COMMANDS: u64 = 20;
/// So many replicas propose in turn.
const REPLICAS: u64 = 3;

/// Whether a state machine is what replicas need: applied twice it answers the same and has
/// the same state; and it goes on the same after a snapshot was taken and restored, between
/// any two commands, into a new machine or over an older state.
///
/// The commands are applied one after the other, a tenth of a second of log time apart,
/// proposed by three replicas in turn, which leave now and then and come back as another run;
/// and the machine is woken where it asks for it. Each command costs a few snapshots, so a
/// thousand commands on a small state are a good measure.
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
    let [mut first, mut second, mut restored] = [(); 3].map(|()| Applier::new(new()));
    // The state of the command before last, which the next snapshot replaces.
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
        // As replicas get it: encoded once, decoded at each.
        let payload = EntryPayload::Batch(batch);
        let output = answer(&mut first, index, payload.clone())?;
        let again = answer(&mut second, index, payload.clone())?;
        check(output == again, || {
            format!("command {index} answers {output:?} once and {again:?} once")
        })?;
        let after = answer(&mut restored, index, payload)?;
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
        let next = if index % 2 == 0 { Applier::new(new()) } else { older };
        older = std::mem::replace(&mut restored, next);
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

/// The run of a replica that proposes the command of that index.
fn run_of(replica: u64, index: u64) -> Incarnation {
    let nonce = Nonce((index + replica * RUN_COMMANDS / REPLICAS) / RUN_COMMANDS);
    Incarnation { replica: ReplicaId(replica as u32 + 1), nonce }
}

/// The batch of a command, and who comes and goes before it.
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
    answer.ok_or_else(|| Violation(format!("command {index} has no answer")))
}

/// What the machine answers, if that is a command.
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

    /// Who proposes is remembered while it is there; a snapshot adds to what is there already
    /// if `adds`.
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
    fn proposers_come_and_go_and_a_restored_state_replaces_all_before() {
        assert_eq!(check_determinism(Guests::default, [(); 100]), Ok(()));
        let adds = || Guests { adds: true, ..Guests::default() };
        let found = check_determinism(adds, [(); 100]).unwrap_err();
        assert!(found.0.contains("behind a snapshot"), "{found}");
    }
}
