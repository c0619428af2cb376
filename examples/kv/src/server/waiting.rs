//! Answers `KEYS` and `WAIT`, which take a while, and `ROLE`.

use std::time::Duration;

use bytes::Bytes;
use service_lib::ReplicaStatus;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::connection_state::text;
use crate::backend::Backend;
use crate::command::{AllKeys, Output, Refusal};
use crate::glob;
use crate::limits::REPLY_BYTES_MAX;
use crate::resp::{Reply, error};

/// Approximate number of keys that `KEYS` looks at before it yields to other clients.
const KEYS_PER_TURN: usize = 1000;

/// Interval at which `WAIT` checks what other replicas have acknowledged.
const WAIT_INTERVAL: Duration = Duration::from_millis(5);

/// Returns all keys that match a pattern. Does not hold up the store, and yields to other clients
/// of this thread.
pub(super) async fn matching(all: &AllKeys, pattern: &[u8]) -> Reply {
    let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
    for part in all.parts() {
        for key in part {
            looked_at += 1;
            if glob::matches(pattern, key) {
                bytes += key.len() + size_of::<Reply>();
                found.push(Reply::BulkString(key.clone()));
            }
        }
        if bytes > REPLY_BYTES_MAX {
            return error(Refusal::ReplyTooLong);
        }
        if looked_at >= KEYS_PER_TURN {
            looked_at = 0;
            yield_now().await;
        }
    }
    Reply::Array(found)
}

/// Waits until this number of other replicas have acknowledged the log up to a position, or until
/// the deadline. Answers with the number of replicas that have.
pub(super) async fn acknowledged(
    backend: &impl Backend,
    position: &Output,
    replicas: i64,
    deadline: Instant,
) -> Reply {
    // Preferred to the replica's own status, which may be slightly out of date.
    let index = match position {
        Output::Integer(position @ 1..) => position.unsigned_abs(),
        _ => backend.replica_status().applied,
    };
    loop {
        let others = backend.replica_status().acked;
        let count = others.iter().filter(|acked| **acked >= index).count() as i64;
        let now = Instant::now();
        if count >= replicas || now >= deadline {
            return Reply::Integer(count);
        }
        sleep_until(deadline.min(now + WAIT_INTERVAL)).await;
    }
}

/// Answers `ROLE`: `master` for a replica that can commit commands, and `slave` without a
/// connection to its master for one that cannot.
pub(super) fn role(status: &ReplicaStatus) -> Reply {
    let applied = Reply::Integer(i64::try_from(status.applied).unwrap_or(i64::MAX));
    match status.blocker() {
        None => Reply::Array(vec![text("master"), applied, Reply::Array(Vec::new())]),
        Some(_) => Reply::Array(vec![
            text("slave"),
            Reply::BulkString(Bytes::new()),
            Reply::Integer(0),
            text("connect"),
            applied,
        ]),
    }
}
