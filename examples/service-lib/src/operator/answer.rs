use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plainsong::{AdminError, Replica, ReplicaId, StateMachine, Status};

use crate::resp::{Reply, error};
use crate::{ReplicaStatus, table};

/// Maximum time that a request waits for a change of the voters. The change itself goes on after
/// it.
const BOUND: Duration = Duration::from_secs(30);

/// Answers an operator's request, or returns `None` if the request is not one.
///
/// | request | reply |
/// | --- | --- |
/// | `STATUS` | status of the replica, what it is waiting for, and the members, as text |
/// | `MEMBERS` | members, votes and progress of each, as a table |
/// | `MEMBERS SAFE` | the reason why no other replica may be stopped now; empty if one may be |
/// | `MEMBERS ADD id`, `MEMBERS REMOVE id`, `MEMBERS REPLACE old new` | `OK` once it is in effect |
/// | `NEWCLUSTER` | what may be lost, and the confirmation code |
/// | `NEWCLUSTER code` | `OK` once the replica runs as a new single-voter cluster |
pub async fn answer<M: StateMachine>(replica: Arc<Replica<M>>, words: &[Bytes]) -> Option<Reply> {
    let words: Vec<String> =
        words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let asked = match words[..] {
        ["STATUS"] => return Some(bulk(render_status(&replica.status()))),
        ["MEMBERS"] => return Some(bulk(members(&replica.status()))),
        ["MEMBERS", "SAFE"] => {
            return Some(bulk(replica.status().restart_obstacle().unwrap_or_default()));
        }
        ["MEMBERS", "ADD", id] => number(id).map(Asked::Add),
        ["MEMBERS", "REMOVE", id] => number(id).map(Asked::Remove),
        ["MEMBERS", "REPLACE", old, new] => {
            number(old).and_then(|old| Ok(Asked::Replace(old, number(new)?)))
        }
        ["MEMBERS", ..] => {
            Err("usage: MEMBERS [SAFE | ADD id | REMOVE id | REPLACE old-id new-id]")
        }
        ["NEWCLUSTER"] => return Some(bulk(losses(&replica.status()))),
        ["NEWCLUSTER", code] if code == confirmation_code(&replica.status()) => {
            Ok(Asked::NewCluster)
        }
        ["NEWCLUSTER", ..] => {
            Err("wrong confirmation code, nothing was changed; NEWCLUSTER without a code prints it")
        }
        _ => return None,
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(mistake) => return Some(error(format_args!("ERR {mistake}"))),
    };
    if let Some(pending) = asked.pending_before(&replica.status()) {
        return Some(error(format_args!("ERR {pending}")));
    }
    // Waiting for the outcome blocks the thread.
    let done = tokio::task::spawn_blocking(move || asked.of(&replica)).await;
    Some(match done {
        Ok(Ok(())) => Reply::SimpleString("OK".into()),
        Ok(Err(why @ AdminError::Timeout(_))) => {
            error(format_args!("TIMEOUT {why}; the change may still take effect: check MEMBERS"))
        }
        Ok(Err(why)) => error(format_args!("ERR {why}")),
        Err(why) => error(format_args!("ERR {why}")),
    })
}

enum Asked {
    Add(ReplicaId),
    Remove(ReplicaId),
    Replace(ReplicaId, ReplicaId),
    NewCluster,
}

impl Asked {
    /// Returns the message that rejects this request because another change of the voters is
    /// pending. Repeating or undoing the pending change is allowed.
    fn pending_before(&self, status: &Status) -> Option<String> {
        let is_new =
            |id: &ReplicaId| status.wanted_voters.contains(id) && !status.voters.contains(id);
        let is_going =
            |id: &ReplicaId| status.voters.contains(id) && !status.wanted_voters.contains(id);
        match self {
            // These repeat the pending change, or undo it.
            Self::Add(id) if is_new(id) || is_going(id) => return None,
            Self::Remove(id) if is_new(id) || is_going(id) => return None,
            Self::Replace(old, new) if is_new(old) || is_new(new) => return None,
            Self::NewCluster => return None,
            Self::Add(_) | Self::Remove(_) | Self::Replace(..) => {}
        }
        let pending = status.pending_change()?;
        let new = status.wanted_voters.iter().find(|id| is_new(id));
        let going = status.voters.iter().find(|id| is_going(id));
        let back = match (new, going) {
            (Some(new), Some(old)) => format!("members replace {new} {old}"),
            (Some(new), None) => format!("members remove {new}"),
            (None, Some(old)) => format!("members add {old}"),
            (None, None) => return None,
        };
        Some(format!(
            "another change of the voters is pending: {pending}; wait until it is in effect, or \
             undo it with `{back}`"
        ))
    }

    fn of<M: StateMachine>(&self, replica: &Replica<M>) -> Result<(), AdminError> {
        let admin = replica.admin();
        let request = match *self {
            Self::Add(id) => admin.add_voter(id),
            Self::Remove(id) => admin.remove_voter(id),
            Self::Replace(old, new) => admin.replace_voter(old, new),
            Self::NewCluster => admin.force_new_cluster(),
        };
        request.wait_timeout(BOUND)
    }
}

fn number(text: &str) -> Result<ReplicaId, &'static str> {
    let id = text.parse().ok().filter(|id| *id > 0);
    id.map(ReplicaId).ok_or("a replica id is a whole number from 1 to 4294967295")
}

fn bulk(text: String) -> Reply {
    Reply::BulkString(text.into())
}

/// Renders the status of the replica and its members as text.
pub fn render_status(status: &Status) -> String {
    format!("{}\n{}", ReplicaStatus::of(status), members(status))
}

/// Renders the members, their votes and their progress as a table, followed by what an operator
/// should know.
fn members(status: &Status) -> String {
    let mut rows =
        vec![["REPLICA", "PROCESS", "VOTES", "ACKED", "APPLIED", "BEHIND"].map(String::from)];
    let votes = |id, votes| match (status.voters.contains(&id), votes) {
        (true, true) => "yes",
        (true, false) => "new store",
        (false, _) if status.wanted_voters.contains(&id) => "not yet",
        (false, _) => "no",
    };
    for member in &status.members {
        let (id, vote) = match member.replica {
            Some(id) => (id.to_string(), votes(id, member.votes)),
            None => ("?".into(), "?"),
        };
        let behind = status.last.0.saturating_sub(member.acked.0);
        let [acked, applied, behind] =
            [member.acked.0, member.applied.0, behind].map(|number| number.to_string());
        rows.push([id, member.member.to_string(), vote.into(), acked, applied, behind]);
    }
    for id in &status.voters {
        if !status.members.iter().any(|member| member.replica == Some(*id)) {
            rows.push([&id.to_string(), "absent", "yes", "", "", ""].map(String::from));
        }
    }
    let mut text = table(&rows);
    if let Some(pending) = status.pending_change() {
        text += &format!("pending: {pending}\n");
    }
    if !status.voters_settled {
        text +=
            "this replica does not know yet whether the last change of the voters is committed\n";
    }
    // A blocked replica reports its reason in the last line.
    if let Some(why) = status.restart_obstacle().filter(|why| Some(why) != status.waiting.as_ref())
    {
        text += &format!("do not stop another replica now: {why}\n");
    }
    if let Some(listed) = &status.listed {
        let listed = listed.iter().map(ToString::to_string).collect::<Vec<_>>();
        text += &format!(
            "the voters differ from the --voters {} that this replica was started with: the option \
             only counts when a group is first formed; to change the voters use `members add`, \
             `members remove` and `members replace`\n",
            listed.join(",")
        );
    }
    if let Some(transfer) = &status.transfer {
        text += &format!(
            "receiving a snapshot at index {} from replica {}: {} of {} bytes\n",
            transfer.index, transfer.donor, transfer.bytes, transfer.of_bytes
        );
    }
    if let Some(foreign) = status.foreign {
        text += &format!(
            "members of another cluster, {foreign}, are in the same CPG group and are ignored: give \
             one of the two clusters another name with --group\n"
        );
    }
    if let Some(waiting) = &status.waiting {
        text += &format!("{waiting}\n");
    }
    text
}

/// Returns the code that confirms a forced new cluster. It depends on the replica and its cluster,
/// so a code read at another replica is rejected.
fn confirmation_code(status: &Status) -> String {
    let cluster = status.cluster.map_or_else(|| "NONE".into(), |cluster| cluster.to_string());
    format!("{}-{cluster:.8}", status.incarnation.replica).to_ascii_uppercase()
}

fn losses(status: &Status) -> String {
    let list = |ids: &mut dyn Iterator<Item = ReplicaId>| {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        if ids.is_empty() { "none".into() } else { ids.join(" ") }
    };
    let is_here = |id: &ReplicaId| status.members.iter().any(|m| m.votes && m.replica == Some(*id));
    let id = status.incarnation.replica;
    format!(
        "Replica {id} would become the only voter of a new cluster, with its log up to index {}.\n\
         Voters now: {}. Absent, or returned without their data: {}.\n\
         Commands that only the absent voters have are lost, even if they were acknowledged.\n\
         The old voters do not know of the new cluster. If they still run or come back, there are\n\
         two independent groups. So stop every other replica, empty its data directory, start it\n\
         without --voters, and add it again with `members add`.\n\
         Never do this at two replicas, nor while a majority of the voters can be brought back.\n\
         Confirmation code: {}\n",
        status.last,
        list(&mut status.voters.iter().copied()),
        list(&mut status.voters.iter().copied().filter(|id| !is_here(id))),
        confirmation_code(status)
    )
}
