use cpg::Member;

use crate::engine::{Role, Status, StopReason, TransferStatus};
use crate::wire::types::{Ballot, ClusterId, Index, ReplicaId};

/// What changes about a replica, as [`Replica::subscribe`](crate::Replica::subscribe) tells it:
/// each with what is now, of which [`Replica::status`](crate::Replica::status) is the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// What it does in its group.
    Role(Role),
    /// The epoch that is open here, and whose order is the order.
    Epoch(Option<Ballot>, Option<ReplicaId>),
    /// Who is in the group, in CPG's order; who each is, once it has said so.
    Members(Vec<(Member, Option<ReplicaId>)>),
    /// Who votes, and whether it is known here that this is committed.
    Voters {
        /// The voters.
        voters: Vec<ReplicaId>,
        /// Their last change is known to be committed.
        settled: bool,
    },
    /// Other replicas are to vote than these, which are listed here to form the group; `None`
    /// when they are the same again.
    ListedOtherwise(Option<Vec<ReplicaId>>),
    /// How far it is; told at most twenty times a second.
    Progress {
        /// Committed up to here.
        committed: Index,
        /// Applied up to here.
        applied: Index,
    },
    /// The newest snapshot that it holds.
    Snapshot(Index),
    /// How far it is with the snapshot that it receives; `None` when it receives none any more.
    Transfer(Option<TransferStatus>),
    /// What it waits for, in words; `None` when it goes on.
    Waiting(Option<String>),
    /// The state of another replica at that index is not the same: the state machine is not
    /// deterministic, or a machine errs.
    Diverged(Index),
    /// Members of another cluster are in the same CPG group, and are ignored; `None` when they
    /// are gone.
    Foreign(Option<ClusterId>),
    /// It has stopped for good.
    Stopped(StopReason),
}

/// What is otherwise than before.
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
