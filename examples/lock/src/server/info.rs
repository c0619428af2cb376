//! The reply to `LIST`.

use plainsong::Timestamp;
use service_lib::resp::Reply;

use super::connection::{bulk, integer};
use crate::command::{HolderListed, LockListed, Mode};

/// Returns the reply to `LIST`. Durations in it are relative to `now`, the log time.
pub(super) fn listed(locks: Vec<LockListed>, now: Timestamp) -> Reply {
    let now = now.0;
    let locks = locks.into_iter().map(|lock| {
        let holders = lock.first.into_iter().map(|holder| described(now, holder)).collect();
        Reply::Array(vec![
            bulk(lock.name.to_string()),
            integer(lock.holders),
            integer(lock.waiters),
            Reply::Array(holders),
        ])
    });
    Reply::Array(locks.collect())
}

fn described(now: u64, holder: HolderListed) -> Reply {
    let mode = match holder.mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    };
    let left = |until: Timestamp| integer(until.0.saturating_sub(now));
    Reply::Array(vec![
        integer(holder.token),
        bulk(mode.into()),
        bulk(holder.owner.to_string()),
        bulk(holder.session.server.replica.to_string()),
        integer(now.saturating_sub(holder.since.0)),
        holder.until.map_or(Reply::Null, left),
        bulk(if holder.lost { "lost" } else { "held" }.into()),
    ])
}
