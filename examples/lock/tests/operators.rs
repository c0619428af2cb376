//! Operator commands while voters change and while replicas are restarted.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;
use common::{Group, until};

#[test]
fn a_pending_change_of_voters_is_shown_and_the_next_change_is_refused() {
    let group = Group::start_with(true);
    let waiting = "replica 7 will become a voter, but is not in the group: start it";
    let mut added = group.lock(0, "members", &["add", "7"]);
    until("the change in the list", || {
        let mut members = group.lock(1, "members", &[]);
        members.exits_with(0);
        let pending = format!("pending: {waiting}");
        until("the list", || members.out().iter().any(|line| line.starts_with('3')).then_some(()));
        members.out().contains(&pending).then_some(())
    });
    let mut removed = group.lock(1, "members", &["remove", "3"]);
    removed.exits_with(69);
    removed.says(waiting);
    removed.says("`members remove 7`");
    group.lock(1, "members", &["remove", "7"]).exits_with(0);
    added.exits_with(69);
    group.lock(1, "members", &["remove", "3"]).exits_with(0);
}

#[test]
fn in_memory_replicas_can_be_restarted_one_by_one_without_loss() {
    let mut group = Group::start();
    let mut first = group.client(0);
    first.lock("LOCK first LINGER 3000");
    for at in 0..3 {
        group.servers[at].process.kill();
        let mut early = group.lock((at + 1) % 3, "members", &["--wait-safe", "--timeout", "0.001"]);
        early.exits_with(75);
        early.says("it is not safe yet to restart another replica");
        group.restart(at, false);
        group.lock(at, "members", &["--wait-safe"]).exits_with(0);
    }
    let list = group.client(0).ask("LIST");
    assert!(list.starts_with("[[\"first\" "), "the lock should survive: {list}");
}
