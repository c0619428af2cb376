//! Leases, including those of frozen processes.

use rustix::process::Signal;

use super::{endless_turn, lines, tokens_of_turns};
use crate::common::{Group, until};

#[test]
fn a_lease_is_renewed_while_the_command_runs_and_expires_otherwise() {
    let group = Group::start();
    let mut forgetful = group.client(0);
    forgetful.lock("LOCK a LEASE 0.4");
    forgetful.send("WATCH a");
    let mut next = group.client(1);
    next.send("LOCK a");
    assert_eq!(forgetful.reply(), "\"the lease has expired\"");
    next.token();
    let mut holder = group.run(2, &["--lease", "3", "b"], "sleep 4.5");
    until("the lock to be held", || (group.client(0).ask("LOCK b TRY") == "nil").then_some(()));
    assert_eq!(group.client(0).ask("LOCK b TIMEOUT 3.6"), "nil", "the lease was renewed");
    holder.exits_with(0);
}

#[test]
fn a_leased_command_is_stopped_before_the_next_when_lock_run_is_frozen() {
    let group = Group::start();
    let file = group.path("turns");
    let options = ["--lease", "3", "--kill-after", "2", "a"];
    let mut holder = group.run(0, &options, &endless_turn(&file));
    lines(&file, 1);
    let script = format!("echo in $LOCK_TOKEN >>{0}; echo out $LOCK_TOKEN >>{0}", file.display());
    let mut next = group.run(1, &["a"], &script);
    group.waiters("a", 1);
    holder.signal(Signal::STOP);
    next.exits_with(0);
    tokens_of_turns(&file, 2);
    holder.signal(Signal::CONT);
    holder.exits_with(75);
}

#[test]
fn a_leased_command_is_stopped_before_the_next_when_its_server_is_frozen() {
    let group = Group::start();
    let file = group.path("turns");
    // Freezing the server that carries the ring would freeze the whole group.
    let [first, second] = [1, 2].map(|at| (group.hub() + at) % 3);
    let options = ["--lease", "3", "--kill-after", "2", "a"];
    let mut holder = group.run(first, &options, &endless_turn(&file));
    lines(&file, 1);
    let server = &group.servers[first].process;
    server.signal(Signal::STOP);
    let script = format!("echo in $LOCK_TOKEN >>{0}; echo out $LOCK_TOKEN >>{0}", file.display());
    group.run(second, &["a"], &script).exits_with(0);
    tokens_of_turns(&file, 2);
    holder.exits_with(75);
    server.signal(Signal::CONT);
}
