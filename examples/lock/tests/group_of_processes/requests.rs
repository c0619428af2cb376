//! Exit statuses, requests over a plain connection, and the status of a server.

use rustix::process::Signal;

use super::lines;
use crate::common::{Group, lock, until};

#[test]
fn the_exit_status_and_signals_are_passed_through() {
    let group = Group::start();
    group.run(0, &["a"], "exit 7").exits_with(7);
    group.run(0, &["a"], "kill -USR1 $$").exits_with(128 + 10);
    group.lock(0, "run", &["a", "--", "/nonexistent/command"]).exits_with(69);
    let file = group.path("trapped");
    let script = format!(
        "trap 'echo hup >>{0}' HUP; trap 'echo term >>{0}; exit 5' TERM; echo ready >>{0}; \
         while :; do sleep 0.1; done",
        file.display()
    );
    let mut job = group.run(1, &["a"], &script);
    lines(&file, 1);
    job.signal(Signal::HUP);
    lines(&file, 2);
    job.signal(Signal::TERM);
    job.exits_with(5);
    assert_eq!(lines(&file, 3), ["ready", "hup", "term"]);
    group.lock(0, "try", &["a", "--", "sh", "-c", "test $LOCK_NAME = a"]).exits_with(0);
}

#[test]
fn requests_over_a_plain_connection_are_answered() {
    let group = Group::start();
    let mut client = group.client(0);
    assert_eq!(client.ask("PING"), "PONG");
    assert!(client.ask("USAGE").contains("LOCK name [SHARED]"));
    assert!(client.ask("GET a").starts_with("-ERR unknown request GET: see USAGE"));
    assert!(client.ask("INFO").contains("voters:1,2,3"));
    let token = client.lock("lock a owner me");
    assert!(client.ask("LOCK a").starts_with("-HELD this connection already has the lock"));
    let list = client.ask("LIST");
    assert!(list.starts_with(&format!("[[\"a\" :1 :0 [[:{token} \"exclusive\" \"me\" \"1\"")));
    assert_eq!(client.ask("LIST AFTER a"), "[]");
    assert_eq!(client.ask("WATCH b"), "this connection does not have the lock");
    client.send("WATCH a");
    assert_eq!(client.ask("PING"), "nil", "the new request ends the watch");
    assert_eq!(client.reply(), "PONG");
    client.send("WATCH a");
    assert_eq!(group.client(1).ask("BREAK a NOW"), ":1");
    assert_eq!(client.reply(), "\"an operator has broken the lock\"");
    assert_eq!(client.ask("UNLOCK a"), ":0");
    assert_eq!(client.ask("QUIT"), "OK");
    assert!(client.try_reply().is_err());
}

#[test]
fn status_shows_the_server_what_it_waits_for_and_the_members() {
    let mut group = Group::start();
    let status = |group: &Group| {
        let mut status = group.lock(0, "status", &[]);
        status.exits_with(0);
        let last = |line: &String| line.starts_with('3');
        until("the members", || Some(status.out()).filter(|out| out.iter().any(last)))
    };
    let has = |out: &[String], part: &str| out.iter().any(|line| line.starts_with(part));
    let healthy = status(&group);
    for part in ["id: 1", "role: ", "epoch: ", "committed: ", "obstacle:", "transfer:", "REPLICA "]
    {
        assert!(has(&healthy, part), "{part}: {healthy:?}");
    }
    assert!(has(&healthy, "voters: 1,2,3"), "{healthy:?}");
    for server in &mut group.servers[1..] {
        server.process.kill();
    }
    until("the reason why it is blocked", || {
        has(&status(&group), "obstacle: waiting for a majority of 1 2 3: have 1").then_some(())
    });
    assert!(status(&group).iter().any(|line| line.starts_with("3  ") && line.contains("absent")));
}

#[test]
fn a_server_of_another_cluster_is_reported_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, id: u32| directory.path().join(format!("{name}{id}"));
    let serve = |id: u32, ring: u32| {
        let engine = format!("embedded:{}", path("ring", ring).display());
        let [socket, data] = ["socket", "data"].map(|name| path(name, id).display().to_string());
        let id = id.to_string();
        let serve = ["serve", "--id", &id, "--voters", &id, "--engine", &engine];
        lock(&[&serve[..], &["--socket", &socket, "--data-dir", &data]].concat())
    };
    for id in [1, 2] {
        let _alone = serve(id, id);
        let socket = path("socket", id).display().to_string();
        until("a cluster of one", || {
            let status = lock(&["try", "--at", &socket, "a"]).ended();
            status.success().then_some(())
        });
    }
    let both = [1, 2].map(|id| serve(id, 3));
    for server in &both {
        server.says("belongs to another cluster and is ignored: give one of the two another group");
    }
}
