//! Requests of operators to a member, in the Redis protocol.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plainsong::{Consistency, Replica, Timestamp};
use service_lib::resp::{Reply, error};
use service_lib::{ReplicaStatus, operator};
use tokio::time::timeout;

use crate::{Command, Election, ElectionMachine, Output};

/// Timeout of `RESIGN`.
const BOUND: Duration = Duration::from_secs(10);

/// Timeout of a `STATUS` read; after it, the member shows the last state that it knows.
const STATUS_BOUND: Duration = Duration::from_secs(2);

/// Answers a request.
pub(super) async fn answer(replica: Arc<Replica<ElectionMachine>>, words: Vec<Bytes>) -> Reply {
    let word = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let replica_status = || ReplicaStatus::of(&replica.status());
    match (&word[..], words.len()) {
        (b"PING", 1) => Reply::SimpleString("PONG".into()),
        (b"INFO", _) => Reply::BulkString(replica_status().info().into()),
        (b"STATUS", 1) => Reply::BulkString(status(&replica).await.into()),
        (b"RESIGN", 1) => {
            let outcome = match replica.try_propose(Command::Resign) {
                Ok(pending) => timeout(BOUND, pending.into_future()).await.ok(),
                Err(_) => None,
            };
            match outcome {
                Some(Ok(output)) => Reply::Integer(i64::from(output == Output::Done)),
                Some(Err(why)) => error(format_args!("CLUSTERDOWN {why}")),
                None => overdue(&replica_status()),
            }
        }
        _ => match operator::answer(Arc::clone(&replica), &words).await {
            Some(reply) => reply,
            None => {
                error("ERR unknown request: use STATUS, RESIGN, MEMBERS, NEWCLUSTER, INFO or PING")
            }
        },
    }
}

fn overdue(status: &ReplicaStatus) -> Reply {
    let blocker = status.blocker().map(|blocker| blocker.to_string());
    let why = blocker.unwrap_or_else(|| "the group did not respond in time".into());
    error(format_args!("CLUSTERDOWN no answer in time: {why}; the request may still take effect"))
}

/// Returns the leader, the candidates and the state of this member as text for operators.
async fn status(replica: &Replica<ElectionMachine>) -> String {
    let look = |machine: &ElectionMachine| machine.election().clone();
    let read = async |consistency| {
        let pending = replica.try_read(consistency, look).ok()?;
        timeout(STATUS_BOUND, pending.into_future()).await.ok()?.ok()
    };
    let mut text = String::new();
    let election = match read(Consistency::Linearizable).await {
        Some(election) => Some(election),
        None => {
            text += "the group does not respond: this is the last state known to this member\n";
            read(Consistency::Local).await
        }
    };
    let now = replica.log_time();
    text +=
        &election.map_or_else(|| "leader: unknown\n".into(), |known| render_election(&known, now));
    text + &operator::render_status(&replica.status())
}

/// Renders the election as text. `now` is the log time.
fn render_election(election: &Election, now: Timestamp) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match election.leader() {
        Some(leader) => {
            let does = if leader.begun { "runs the command" } else { "is about to begin" };
            let seconds = now.0.saturating_sub(leader.since.0) / 1000;
            let (id, token) = (leader.run.replica, leader.token);
            writeln!(text, "leader: {id}, token {token}, for {seconds} s; it {does}")
        }
        None => writeln!(text, "leader: none; there are no candidates"),
    };
    if let Some(unstopped) = election.unstopped() {
        let _ = writeln!(
            text,
            "waiting: at most {:.1} s for the former command, with token {}, to stop",
            unstopped.linger_ms as f64 / 1000.0,
            unstopped.token
        );
    }
    for (run, candidate) in election.candidates() {
        let rest = if candidate.sits_out { ", resigned" } else { "" };
        let _ = writeln!(text, "candidate: {}, priority {}{rest}", run.replica, candidate.priority);
    }
    text
}
