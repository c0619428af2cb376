//! Locks when their holder, its server or the majority dies.

use rustix::process::{Signal, kill_process};

use super::{endless_turn, is_alive, lines, pid, tokens_of_turns};
use crate::common::Group;

#[test]
fn a_command_keeps_its_lock_after_lock_run_is_killed_until_it_is_killed_too() {
    let group = Group::start();
    let file = group.path("pid");
    let script = format!("echo $$ >{}; exec sleep 1000", file.display());
    let mut holder = group.run(0, &["a"], &script);
    let command = pid(&file);
    let token_before = group.client(1).lock("LOCK other");
    holder.kill();
    assert!(is_alive(command));
    assert_eq!(group.client(1).ask("LOCK a TIMEOUT 1"), "nil", "the command still has the lock");
    let mut next = group.client(1);
    next.send("LOCK a");
    group.waiters("a", 1);
    kill_process(command, Signal::KILL).unwrap();
    assert!(next.token() > token_before);
}

#[test]
fn the_next_waiter_gets_the_lock_when_the_holder_s_server_is_killed() {
    let mut group = Group::start();
    let mut holder = group.client(0);
    let token = holder.lock("LOCK a");
    let mut dead_waiter = group.client(0);
    dead_waiter.send("LOCK a");
    group.waiters("a", 1);
    let mut first = group.client(1);
    first.send("LOCK a");
    group.waiters("a", 2);
    let mut second = group.client(2);
    second.send("LOCK a");
    group.waiters("a", 3);
    let mut dead = group.servers.remove(0);
    dead.process.kill();
    let next = first.token();
    assert!(next > token);
    assert!(holder.try_reply().is_err(), "the connection should be closed");
    assert_eq!(first.ask("UNLOCK a"), ":1");
    assert!(second.token() > next);
}

#[test]
fn a_command_is_stopped_before_the_next_starts_when_its_server_is_killed() {
    let mut group = Group::start();
    let file = group.path("turns");
    let turn = |body: &str| {
        let file = file.display();
        format!(
            "trap 'sleep 0.8; echo out $LOCK_TOKEN >>{file}; exit 3' TERM; echo in $LOCK_TOKEN >>{file}; \
             {body}; echo out $LOCK_TOKEN >>{file}"
        )
    };
    let endless = "while :; do sleep 0.1; done";
    let mut holder = group.run(0, &["--kill-after", "2", "a"], &turn(endless));
    lines(&file, 1);
    let mut next = group.run(1, &["a"], &turn(":"));
    group.waiters("a", 1);
    let mut dead = group.servers.remove(0);
    dead.process.kill();
    holder.exits_with(75);
    holder.says("lost a: ");
    next.exits_with(0);
    tokens_of_turns(&file, 2);
}

#[test]
fn a_holder_keeps_its_lock_when_the_process_that_carries_the_ring_is_killed() {
    let mut group = Group::start();
    let mut dead = group.servers.remove(group.hub());
    let mut holder = group.client(0);
    holder.lock("LOCK a");
    let mut waiter = group.client(1);
    waiter.send("LOCK a");
    group.waiters("a", 1);
    dead.process.kill();
    for server in &group.servers {
        server.is_ready();
    }
    assert_eq!(holder.ask("RENEW a"), ":1", "it still has the lock");
    assert_eq!(holder.ask("UNLOCK a"), ":1");
    waiter.token();
}

#[test]
fn a_command_is_stopped_when_its_server_loses_the_majority() {
    let mut group = Group::start();
    let file = group.path("pid");
    let script = format!("echo $$ >{}; exec sleep 1000", file.display());
    let mut holder = group.run(0, &["a"], &script);
    let command = pid(&file);
    for server in &mut group.servers[1..] {
        server.process.kill();
    }
    holder.exits_with(75);
    assert!(!is_alive(command));
    holder.says("does not see a majority");
    let mut late = group.lock(0, "try", &["b"]);
    late.exits_with(69);
    late.says("waiting for a majority of 1 2 3: have 1");
}

#[test]
fn a_command_is_stopped_when_its_server_dies_while_lock_run_is_frozen_or_dead() {
    for signal in [Signal::STOP, Signal::KILL] {
        let mut group = Group::start();
        let file = group.path("turns");
        let options = ["--kill-after", "2", "a"];
        let holder = group.run(0, &options, &endless_turn(&file));
        lines(&file, 1);
        let script =
            format!("echo in $LOCK_TOKEN >>{0}; echo out $LOCK_TOKEN >>{0}", file.display());
        let mut next = group.run(1, &["a"], &script);
        group.waiters("a", 1);
        holder.signal(signal);
        assert_eq!(
            group.client(2).ask("LOCK a TIMEOUT 1"),
            "nil",
            "the command still has the lock"
        );
        let mut dead = group.servers.remove(0);
        dead.process.kill();
        next.exits_with(0);
        tokens_of_turns(&file, 2);
    }
}
