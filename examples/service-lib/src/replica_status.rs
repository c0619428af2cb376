use std::fmt;

use plainsong::{MemberStatus, Status};

use crate::Transfer;

/// Status of a replica and its group, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Id of the replica.
    pub id: String,
    /// Role of the replica in its group.
    pub role: String,
    /// The open epoch, or `none`.
    pub epoch: String,
    /// The replica that orders commands now.
    pub sequencer: Option<String>,
    /// The voters.
    pub voters: Vec<String>,
    /// The current members of the group. `?` stands for one that has not identified itself yet.
    pub members: Vec<String>,
    /// Index of the last log entry of this replica.
    pub last: u64,
    /// Index of the last entry known to be committed.
    pub committed: u64,
    /// Index of the last entry applied by this replica.
    pub applied: u64,
    /// The condition that a blocked replica is waiting for ("waiting for …"). `None` if it is not
    /// blocked.
    pub waiting: Option<String>,
    /// Progress of the snapshot that is being received, if one is.
    pub transfer: Option<Transfer>,
    /// Reason for which the replica has stopped, if it has.
    pub stopped: Option<String>,
    /// For each of the other members, the index up to which it has last reported to have acked.
    pub acked: Vec<u64>,
    /// True if a majority of the voters is in the group as seen from this replica, and messages
    /// from it arrive.
    pub majority: bool,
}

impl ReplicaStatus {
    /// Returns the fields of `INFO`, as names and values. The blocker is called `obstacle` there.
    pub fn fields(&self) -> [(&'static str, String); 11] {
        let blocker = self.blocker().map(|blocker| blocker.to_string());
        [
            ("id", self.id.clone()),
            ("role", self.role.clone()),
            ("epoch", self.epoch.clone()),
            ("sequencer", self.sequencer.clone().unwrap_or_default()),
            ("voters", self.voters.join(",")),
            ("members", self.members.join(",")),
            ("last", self.last.to_string()),
            ("committed", self.committed.to_string()),
            ("applied", self.applied.to_string()),
            ("obstacle", blocker.unwrap_or_default()),
            ("transfer", self.transfer.map(|transfer| transfer.to_string()).unwrap_or_default()),
        ]
    }

    /// Returns the fields as a section of a Redis `INFO` reply.
    pub fn info(&self) -> String {
        let mut text = String::from("# Replication\r\n");
        for (name, value) in self.fields() {
            text += &format!("{name}:{}\r\n", value.replace(['\r', '\n'], " "));
        }
        text
    }

    /// Converts a status to text.
    pub fn of(status: &Status) -> Self {
        let is_here =
            |id| status.members.iter().any(|member| member.votes && member.replica == Some(id));
        let here = status.voters.iter().filter(|id| is_here(**id)).count();
        Self {
            id: status.incarnation.replica.to_string(),
            role: status.role.to_string(),
            epoch: status.epoch.map_or_else(|| "none".into(), |epoch| epoch.to_string()),
            sequencer: status.sequencer.map(|id| id.to_string()),
            voters: status.voters.iter().map(ToString::to_string).collect(),
            members: status.members.iter().map(name).collect(),
            last: status.last.0,
            committed: status.committed.0,
            applied: status.applied.0,
            waiting: status.waiting.clone(),
            transfer: status.transfer.as_ref().map(Transfer::of),
            stopped: status.stopped.as_ref().map(ToString::to_string),
            acked: acked_by_others(status),
            majority: status.stopped.is_none()
                && status.silent.is_none()
                && here * 2 > status.voters.len(),
        }
    }

    /// Returns what prevents this replica from committing commands, if anything does.
    pub fn blocker(&self) -> Option<Blocker<'_>> {
        match (&self.stopped, &self.waiting) {
            (Some(why), _) => Some(Blocker::Stopped(why)),
            (None, Some(what)) => Some(Blocker::Waiting(what)),
            (None, None) => None,
        }
    }
}

/// One line per field: `name: value`.
impl fmt::Display for ReplicaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

fn acked_by_others(status: &Status) -> Vec<u64> {
    let is_other = |member: &&MemberStatus| {
        member.replica.is_some_and(|replica| replica != status.incarnation.replica)
    };
    status.members.iter().filter(is_other).map(|member| member.acked.0).collect()
}

/// Returns a member's replica id, or a question mark if the member has not identified itself yet.
fn name(member: &MemberStatus) -> String {
    member.replica.map_or_else(|| "?".into(), |id| id.to_string())
}

/// A condition that prevents commands from being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker<'a> {
    /// The replica is waiting: "waiting for …".
    Waiting(&'a str),
    /// The replica has stopped, for this reason.
    Stopped(&'a str),
}

impl fmt::Display for Blocker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(what) => f.write_str(what),
            Self::Stopped(why) => write!(f, "this replica has stopped: {why}"),
        }
    }
}
