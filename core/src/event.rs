use cpg::Member;

use crate::engine::{Role, Status, StopReason, TransferStatus};
use crate::wire::types::{Ballot, ClusterId, Index, ReplicaId};

/// A change of the status of a replica, delivered by
/// [`Replica::subscribe`](crate::Replica::subscribe). Each event carries the new value of a part of
/// [`Status`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The role of this replica in the group.
    Role(Role),
    /// The epoch that is open at this replica, and its sequencer. Both are `None` while no epoch is
    /// open.
    Epoch(Option<Ballot>, Option<ReplicaId>),
    /// The members of the CPG group, in CPG's order. The id of a member is `None` until it has
    /// announced itself.
    Members(Vec<(Member, Option<ReplicaId>)>),
    /// The voters.
    Voters {
        /// The voters in force.
        voters: Vec<ReplicaId>,
        /// True if this replica knows that the last change of the voters is committed.
        settled: bool,
    },
    /// The bootstrap list of this replica, if it differs from the voters that the group wants;
    /// `None` when the two agree again. The list has no effect on an existing group.
    ListedOtherwise(Option<Vec<ReplicaId>>),
    /// Progress of the log. Reported at most 20 times a second.
    Progress {
        /// Index of the last committed entry known to this replica.
        committed: Index,
        /// Index of the last entry applied by this replica.
        applied: Index,
    },
    /// Index of the newest snapshot that this replica holds.
    Snapshot(Index),
    /// Progress of the snapshot that this replica receives; `None` when the transfer has ended.
    Transfer(Option<TransferStatus>),
    /// Description of what this replica waits for; `None` when it is no longer blocked.
    Waiting(Option<String>),
    /// Another replica has a different state at this index: either the state machine is not
    /// deterministic, or the memory or disk of a host is faulty.
    Diverged(Index),
    /// Another cluster whose members are in the same CPG group and are ignored; `None` when they
    /// have left.
    Foreign(Option<ClusterId>),
    /// This replica has stopped permanently.
    Stopped(StopReason),
}

/// Compares two statuses and returns the changes as events.
pub(crate) fn changes(before: &Status, now: &Status) -> Vec<Event> {
    let members = |status: &Status| -> Vec<_> {
        status.members.iter().map(|member| (member.member, member.replica)).collect()
    };
    let epoch = |status: &Status| (status.epoch, status.sequencer);
    let voters = |status: &Status| (status.voters.clone(), status.voters_settled);
    let progress = |status: &Status| (status.committed, status.applied);
    let waiting = |status: &Status| status.waiting.clone();
    let mut events = Vec::new();
    let mut note = |is_new: bool, event: &dyn Fn() -> Option<Event>| {
        events.extend(is_new.then(event).flatten());
    };
    note(before.role != now.role, &|| Some(Event::Role(now.role)));
    note(epoch(before) != epoch(now), &|| Some(Event::Epoch(now.epoch, now.sequencer)));
    note(members(before) != members(now), &|| Some(Event::Members(members(now))));
    note(voters(before) != voters(now), &|| {
        Some(Event::Voters { voters: now.voters.clone(), settled: now.voters_settled })
    });
    note(before.listed != now.listed, &|| Some(Event::ListedOtherwise(now.listed.clone())));
    note(progress(before) != progress(now), &|| {
        Some(Event::Progress { committed: now.committed, applied: now.applied })
    });
    note(before.snapshot != now.snapshot, &|| now.snapshot.map(Event::Snapshot));
    note(before.transfer != now.transfer, &|| Some(Event::Transfer(now.transfer)));
    note(waiting(before) != waiting(now), &|| Some(Event::Waiting(waiting(now))));
    note(before.diverged != now.diverged, &|| now.diverged.map(Event::Diverged));
    note(before.foreign != now.foreign, &|| Some(Event::Foreign(now.foreign)));
    note(before.stopped != now.stopped, &|| now.stopped.clone().map(Event::Stopped));
    events
}
