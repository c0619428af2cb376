use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plainsong::{AdminError, Replica, ReplicaId, StateMachine, Status};

use crate::resp::{Reply, error};
use crate::{ReplicaStatus, table};

/// How long a change of the voters may take before the operator is told that it goes on.
const BOUND: Duration = Duration::from_secs(30);

/// Answers an operator's request. `None`: it is none.
///
/// | request | answer |
/// | --- | --- |
/// | `STATUS` | how the replica is and what it waits for, and the members, for people |
/// | `MEMBERS` | the members, who votes and how far each is, as a table for people |
/// | `MEMBERS SAFE` | why no other replica should be stopped now; empty if one may be |
/// | `MEMBERS ADD id`, `MEMBERS REMOVE id`, `MEMBERS REPLACE old new` | `OK` when it is in force |
/// | `NEWCLUSTER` | what may be lost, and the word to say if that is wanted |
/// | `NEWCLUSTER word` | `OK` when the replica goes on alone |
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
        ["MEMBERS", ..] => Err("MEMBERS takes nothing, SAFE, ADD id, REMOVE id or REPLACE old new"),
        ["NEWCLUSTER"] => return Some(bulk(losses(&replica.status()))),
        ["NEWCLUSTER", said] if said == word(&replica.status()) => Ok(Asked::NewCluster),
        ["NEWCLUSTER", ..] => Err("that is not the word that NEWCLUSTER tells; nothing was done"),
        _ => return None,
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(mistake) => return Some(error(format_args!("ERR {mistake}"))),
    };
    if let Some(pending) = asked.pending_before(&replica.status()) {
        return Some(error(format_args!("ERR {pending}")));
    }
    // The answer comes from another thread, and blocks.
    let done = tokio::task::spawn_blocking(move || asked.of(&replica)).await;
    Some(match done {
        Ok(Ok(())) => Reply::SimpleString("OK".into()),
        Ok(Err(why @ AdminError::Timeout(_))) => {
            error(format_args!("TIMEOUT {why}; it may still come into force: see MEMBERS"))
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
    /// The change that has to be in force, or be taken back, before this one is asked for.
    fn pending_before(&self, status: &Status) -> Option<String> {
        let is_new =
            |id: &ReplicaId| status.wanted_voters.contains(id) && !status.voters.contains(id);
        let is_going =
            |id: &ReplicaId| status.voters.contains(id) && !status.wanted_voters.contains(id);
        match self {
            // The same again, or the opposite.
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
            "a change of the voters is pending: {pending}; wait until it is in force, or take it \
             back with `{back}`"
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
    id.map(ReplicaId).ok_or("a replica has a number, from 1")
}

fn bulk(text: String) -> Reply {
    Reply::BulkString(text.into())
}

/// Renders the status of the replica and its members as text for people.
pub fn render_status(status: &Status) -> String {
    format!("{}\n{}", ReplicaStatus::of(status), members(status))
}

/// Who is here and who votes, and how far each is.
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
            rows.push([&id.to_string(), "not here", "yes", "", "", ""].map(String::from));
        }
    }
    let mut text = table(&rows);
    if let Some(pending) = status.pending_change() {
        text += &format!("pending: {pending}\n");
    }
    if !status.voters_settled {
        text += "the last change of who votes is not known to be committed yet\n";
    }
    if let Some(why) = status.restart_obstacle() {
        text += &format!("no other replica should be stopped now: {why}\n");
    }
    if let Some(listed) = &status.listed {
        let listed = listed.iter().map(ToString::to_string).collect::<Vec<_>>();
        text += &format!(
            "the voters are others than those that this replica was started with (--voters {}): the \
             list means nothing to a group that exists; change them by `members add` and `members \
             remove`\n",
            listed.join(",")
        );
    }
    if let Some(transfer) = &status.transfer {
        text += &format!(
            "replica {} sends the state at index {}: {} of {} bytes are here\n",
            transfer.donor, transfer.index, transfer.bytes, transfer.of_bytes
        );
    }
    if let Some(foreign) = status.foreign {
        text += &format!(
            "members of cluster {foreign} are in the same CPG group and are ignored: give one of \
             the two clusters another group name\n"
        );
    }
    if let Some(waiting) = &status.waiting {
        text += &format!("{waiting}\n");
    }
    text
}

/// To be said by whoever has read what may be lost here: of this replica, and of this state of
/// its cluster.
fn word(status: &Status) -> String {
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
        "Replica {id} would go on alone, as a new cluster, from its log, which ends at index {}.\n\
         Of the voters ({}) these are not here, or have lost their stores: {}.\n\
         What only they have is lost, although it may have been acknowledged. Should they still\n\
         run, or come back, they know nothing of the new cluster: there would be two groups. All\n\
         others have to be started with emptied folders, and to be added by `members add`.\n\
         Never do this at two replicas, nor while a majority can be brought back.\n\
         The word that says so: {}\n",
        status.last,
        list(&mut status.voters.iter().copied()),
        list(&mut status.voters.iter().copied().filter(|id| !is_here(id))),
        word(status)
    )
}
