//! Messages that no correct replica sends, as from one with a bug or faulty memory. Their numbers
//! are larger than any group reaches (rules B10 and N13).

use std::fmt;

use bytes::Bytes;

use super::Fault;
use crate::StateMachine;
use crate::snapshot::SnapshotName;
use crate::testing::Workload;
use crate::testing::process::Process;
use crate::testing::world::World;
use crate::wire::entry::{Batch, BatchKind};
use crate::wire::message::{Announce, Fetch, Message, Missing, Progress, Read, Received};
use crate::wire::types::{Ballot, Digest, Index, Origin, Position, StoreId};

pub(super) fn fault<W: Workload>() -> Fault<W> {
    Fault {
        name: "impossible messages",
        rates: &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 10, 50],
        strike: |simulation, at, random| {
            let roll = random.number();
            if let Some(process) = &mut simulation.hosts[at].process {
                process.send_impossible_message(&simulation.world, roll);
            }
            Ok(())
        },
    }
}

impl<M: StateMachine<Output: Clone + PartialEq + fmt::Debug>> Process<M> {
    /// Sends one such message, chosen by `roll`.
    fn send_impossible_message<W: Workload<Machine = M>>(&mut self, world: &World<W>, roll: u64) {
        let huge = u64::MAX - (roll >> 8) % 1000;
        let incarnation = self.incarnation;
        let (replica, nonce) = (incarnation.replica, incarnation.nonce);
        let ballot = Ballot { counter: huge, replica: replica.0, nonce };
        let epoch = self.engine.promised();
        let store = StoreId(roll);
        let last = Position { epoch: ballot, index: Index(huge) };
        let name = SnapshotName { position: last, digest: Digest(0), bytes: huge };
        let progress = |epoch, promised, acked| Progress {
            epoch,
            incarnation,
            store: self.engine.config().store,
            marks: None,
            acked,
            applied: acked,
            echo: Vec::new(),
            promised,
        };
        let message = match roll % 10 {
            0 => Message::Begin(ballot),
            1 => Message::Announce(Announce {
                incarnation,
                store,
                application: self.engine.config().application.clone(),
                last,
                promised: ballot,
                first_kept: Index(huge),
                snapshots: vec![name],
                first: false,
                refused: None,
            }),
            2 => Message::Progress(progress(ballot, ballot, Index(0))),
            3 => Message::Progress(progress(epoch, ballot, Index(0))),
            4 => Message::Progress(progress(epoch, epoch, Index(huge))),
            5 => Message::Read(Read { epoch, incarnation, round: huge }),
            6 => {
                let origin = Origin { replica, counter: huge, nonce };
                let (kind, commands) = (BatchKind::Application, Bytes::new());
                let batch = Batch { origin, number: 1, kind, count: 0, commands };
                Message::Batch(batch, Some(progress(epoch, epoch, Index(0))))
            }
            7 => {
                let name = self.engine.held().first().copied().unwrap_or(name);
                let gap = Some((huge - 1, huge));
                let (donor, seen, missing) = (incarnation, huge, huge);
                Message::Received(Received { incarnation, name, donor, seen, gap, missing })
            }
            8 => {
                let (digest, donor, partial) = (Digest(0), None, Some(name));
                let missing = Missing::Entries { after: last, digest, donor, partial };
                Message::Fetch(Fetch { epoch, incarnation, missing })
            }
            _ => Message::Fetch(Fetch { epoch: ballot, incarnation, missing: Missing::Open }),
        };
        world.note(|| format!("{replica} sends an impossible message: {message:?}"));
        self.push(&message);
    }
}
