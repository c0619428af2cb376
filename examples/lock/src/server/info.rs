//! The list of locks, as a reply.

use std::time::{SystemTime, UNIX_EPOCH};

use service::resp::Reply;

use super::connection::{bulk, integer};
use crate::command::{HolderListed, LockListed, Mode};

/// Times are told from this host's clock, from which the log's differs little.
pub(super) fn listed(locks: Vec<LockListed>) -> Reply {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
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
    let left = |until: plainsong::Timestamp| integer(until.0.saturating_sub(now));
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
