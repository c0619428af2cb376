use std::fmt;

use plainsong::{MemberStatus, Status};

use crate::Transfer;

/// The status of a replica and its group, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The replica.
    pub id: String,
    /// What it does in the group.
    pub role: String,
    /// The period of normal operation it is in.
    pub epoch: String,
    /// Which replica gives the commands their order now.
    pub sequencer: Option<String>,
    /// Whose majority commits.
    pub voters: Vec<String>,
    /// Who is in the group now.
    pub members: Vec<String>,
    /// The last position of the log here.
    pub last: u64,
    /// The last position that a majority has.
    pub committed: u64,
    /// The last position that the store here has applied.
    pub applied: u64,
    /// What the replica waits for, if it cannot go on without: "waiting for ...".
    pub waiting: Option<String>,
    /// The state that it receives, if it lags so far that it needs one.
    pub transfer: Option<Transfer>,
    /// Why it has stopped.
    pub stopped: Option<String>,
    /// The last position that each of the other replicas has said to have stored.
    pub acked: Vec<u64>,
    /// Whether a majority of the voters is in the group as seen from here, and is heard.
    pub majority: bool,
}

impl ReplicaStatus {
    /// Returns the fields of `INFO`, by name. The name of the blocker there is `obstacle`.
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

    /// The same in the form of Redis' `INFO`.
    pub fn info(&self) -> String {
        let mut text = String::from("# Replication\r\n");
        for (name, value) in self.fields() {
            text += &format!("{name}:{}\r\n", value.replace(['\r', '\n'], " "));
        }
        text
    }

    /// Returns the status as text.
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

    /// Returns what keeps commands from being committed here, if anything does.
    pub fn blocker(&self) -> Option<Blocker<'_>> {
        match (&self.stopped, &self.waiting) {
            (Some(why), _) => Some(Blocker::Stopped(why)),
            (None, Some(what)) => Some(Blocker::Waiting(what)),
            (None, None) => None,
        }
    }
}

/// For people, a line for each.
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

/// A member by its replica; one that has not said yet which it is, as a question mark.
fn name(member: &MemberStatus) -> String {
    member.replica.map_or_else(|| "?".into(), |id| id.to_string())
}

/// What keeps commands from being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker<'a> {
    /// The replica waits for something, in words that say so.
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
