//! Three servers, their clients, and what becomes of locks when some of them die.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use service_lib::testing::Process;

mod common;
use common::{Group, PROGRAM, lock, until};

/// Waits until a file has so many lines, and returns them.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    until("lines in a file", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<String> = text.lines().map(String::from).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}

/// The lines `in TOKEN` and `out TOKEN` of a guarded file never overlap, and tokens grow.
#[track_caller]
fn tokens_of_turns(path: &Path, turns: usize) -> Vec<u64> {
    let lines = lines(path, 2 * turns);
    assert_eq!(lines.len(), 2 * turns, "{lines:?}");
    let mut tokens: Vec<u64> = Vec::new();
    for turn in lines.chunks(2) {
        let token = turn[0].strip_prefix("in ").unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(turn[1], format!("out {token}"), "{lines:?}");
        tokens.push(token.parse().unwrap());
    }
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    tokens
}

/// The process id that a command has written to a file.
#[track_caller]
fn pid(path: &Path) -> Pid {
    Pid::from_raw(lines(path, 1)[0].parse().unwrap()).unwrap()
}

fn is_alive(pid: Pid) -> bool {
    // A zombie that nobody waits for is dead.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

#[test]
fn one_at_a_time_has_the_lock_however_many_want_it() {
    const WORKERS: usize = 6;
    const TURNS: usize = 4;
    let group = Group::start();
    let (file, counter) = (group.path("turns"), group.path("counter"));
    std::fs::write(&counter, "0\n").unwrap();
    let script = format!(
        "echo in $LOCK_TOKEN >>{0}; read n <{1}; echo $((n + 1)) >{1}; echo out $LOCK_TOKEN >>{0}",
        file.display(),
        counter.display()
    );
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (group, script) = (&group, &script);
            scope.spawn(move || {
                for turn in 0..TURNS {
                    group.run((worker + turn) % 3, &["guarded"], script).exits_with(0);
                }
            });
        }
    });
    tokens_of_turns(&file, WORKERS * TURNS);
    assert_eq!(lines(&counter, 1), [(WORKERS * TURNS).to_string()]);
}

#[test]
fn waiters_at_different_servers_get_the_lock_in_the_order_of_asking() {
    let group = Group::start();
    let mut holder = group.client(0);
    let mut last = holder.lock("LOCK a");
    let mut waiters = Vec::new();
    for at in 0..6 {
        let mut waiter = group.client(at % 3);
        waiter.send("LOCK a");
        group.waiters("a", at + 1);
        waiters.push(waiter);
    }
    drop(holder);
    for mut waiter in waiters {
        let token = waiter.token();
        assert!(token > last);
        last = token;
        // It ends as a process that is killed does: without a word.
        drop(waiter);
    }
}

#[test]
fn those_who_share_a_lock_have_it_together_and_starve_nobody() {
    let group = Group::start();
    let [mut one, mut two] = [0, 1].map(|at| group.client(at));
    let shared = [one.lock("LOCK a SHARED"), two.lock("LOCK a SHARED")];
    let mut alone = group.client(2);
    alone.send("LOCK a");
    group.waiters("a", 1);
    let mut late = group.client(0);
    assert_eq!(late.ask("LOCK a SHARED TRY"), "nil");
    late.send("LOCK a SHARED");
    group.waiters("a", 2);
    assert_eq!(one.ask("UNLOCK a"), ":1");
    assert_eq!(group.client(1).ask("LOCK a TRY"), "nil");
    assert_eq!(two.ask("UNLOCK a"), ":1");
    let token = alone.token();
    assert!(shared.iter().all(|before| *before < token));
    assert_eq!(alone.ask("UNLOCK a"), ":1");
    assert!(late.token() > token);
}

#[test]
fn waits_end_in_time_in_an_idle_group() {
    let group = Group::start();
    let mut holder = group.client(0);
    holder.lock("LOCK a");
    assert_eq!(group.client(1).ask("LOCK a TIMEOUT 0.3"), "nil");
    let touch = group.path("ran");
    let script = format!("touch {}", touch.display());
    group.run(2, &["--timeout", "0.3", "a"], &script).exits_with(1);
    group.run(2, &["--timeout", "0.3", "-E", "7", "a"], &script).exits_with(7);
    group.lock(2, "try", &["a"]).exits_with(1);
    assert!(!touch.exists());
    drop(holder);
    group.run(2, &["--timeout", "30", "a"], &script).exits_with(0);
    assert!(touch.exists());
    group.lock(2, "try", &["a"]).exits_with(0);
}

#[test]
fn a_command_keeps_its_lock_when_lock_run_is_killed_and_frees_it_when_it_is_killed_too() {
    let group = Group::start();
    let file = group.path("pid");
    let script = format!("echo $$ >{}; exec sleep 1000", file.display());
    let mut holder = group.run(0, &["a"], &script);
    let command = pid(&file);
    let token_before = group.client(1).lock("LOCK other");
    holder.kill();
    assert!(is_alive(command));
    assert_eq!(group.client(1).ask("LOCK a TIMEOUT 1"), "nil", "the command still has it");
    let mut next = group.client(1);
    next.send("LOCK a");
    group.waiters("a", 1);
    kill_process(command, Signal::KILL).unwrap();
    assert!(next.token() > token_before);
}

#[test]
fn the_next_gets_the_lock_when_the_server_of_its_holder_is_killed() {
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
    assert!(holder.try_reply().is_err(), "the connection is gone");
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
fn a_holder_keeps_its_lock_when_the_process_that_serves_the_ring_is_killed() {
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
    assert_eq!(holder.ask("RENEW a"), ":1", "it still has it");
    assert_eq!(holder.ask("UNLOCK a"), ":1");
    waiter.token();
}

#[test]
fn a_broken_lock_stops_the_command_by_force_if_need_be_and_passes_on_then() {
    let group = Group::start();
    let file = group.path("pid");
    let stubborn =
        format!("trap '' TERM; echo $$ >{}; while :; do sleep 0.1; done", file.display());
    let mut holder = group.run(0, &["--kill-after", "1", "a"], &stubborn);
    let command = pid(&file);
    let mut next = group.client(1);
    next.send("LOCK a");
    group.waiters("a", 1);
    let listed = group.lock(2, "ls", &[]);
    let row = until("a row of the list", || listed.out().into_iter().nth(1));
    for part in ["a ", "exclusive", "held for ", "sh -c trap"] {
        assert!(row.contains(part), "{row}");
    }
    group.lock(2, "break", &["a"]).exits_with(0);
    next.token();
    assert!(!is_alive(command), "it is dead before the next has the lock");
    holder.exits_with(75);
    holder.says("an operator has broken the lock");
    group.lock(2, "break", &["nobody-holds-it"]).exits_with(1);
}

#[test]
fn a_command_is_stopped_and_its_status_is_right_when_nobody_can_be_told_why() {
    let group = Group::start();
    let file = group.path("pid");
    let script = format!("echo $$ >{}; exec sleep 1000", file.display());
    let mut mute = Process::without_room_for_its_log(PROGRAM);
    mute.args(["run", "--at"]).arg(&group.servers[0].socket);
    mute.args(["a", "--", "sh", "-c", &script]);
    let mut holder = Process::by(mute);
    let command = pid(&file);
    group.lock(2, "break", &["a"]).exits_with(0);
    holder.exits_with(75);
    assert!(!is_alive(command));
}

#[test]
fn a_holder_without_a_majority_is_stopped() {
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
fn a_server_that_is_stopped_in_order_lets_commands_stop_first() {
    let mut group = Group::start();
    let file = group.path("pid");
    let script = format!("echo $$ >{}; exec sleep 1000", file.display());
    let mut holder = group.run(0, &["a"], &script);
    let command = pid(&file);
    let mut next = group.client(1);
    next.send("LOCK a");
    group.waiters("a", 1);
    let mut leaver = group.servers.remove(0);
    leaver.process.signal(Signal::TERM);
    next.token();
    assert!(!is_alive(command));
    holder.exits_with(75);
    leaver.process.exits_with(0);
    assert!(!leaver.socket.exists());
}

#[test]
fn a_lease_is_renewed_while_the_command_runs_and_ends_by_itself_otherwise() {
    let group = Group::start();
    let mut forgetful = group.client(0);
    forgetful.lock("LOCK a LEASE 0.4");
    forgetful.send("WATCH a");
    let mut next = group.client(1);
    next.send("LOCK a");
    assert_eq!(forgetful.reply(), "\"the lease has run out\"");
    next.token();
    let mut holder = group.run(2, &["--lease", "3", "b"], "sleep 4.5");
    until("the lock to be held", || (group.client(0).ask("LOCK b TRY") == "nil").then_some(()));
    assert_eq!(group.client(0).ask("LOCK b TIMEOUT 3.6"), "nil", "it was renewed");
    holder.exits_with(0);
}

#[test]
fn exit_status_and_signals_are_those_of_the_command() {
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
fn requests_by_hand_are_answered() {
    let group = Group::start();
    let mut client = group.client(0);
    assert_eq!(client.ask("PING"), "PONG");
    assert!(client.ask("USAGE").contains("LOCK name [SHARED]"));
    assert!(client.ask("GET a").starts_with("-ERR GET is no request of a lock service"));
    assert!(client.ask("INFO").contains("voters:1,2,3"));
    let token = client.lock("lock a owner me");
    assert_eq!(client.ask("LOCK a"), "-HELD this connection has the lock already: UNLOCK it first");
    let list = client.ask("LIST");
    assert!(list.starts_with(&format!("[[\"a\" :1 :0 [[:{token} \"exclusive\" \"me\" \"1\"")));
    assert_eq!(client.ask("LIST AFTER a"), "[]");
    assert_eq!(client.ask("WATCH b"), "this connection does not have the lock");
    client.send("WATCH a");
    assert_eq!(client.ask("PING"), "nil", "the watch ends");
    assert_eq!(client.reply(), "PONG");
    client.send("WATCH a");
    assert_eq!(group.client(1).ask("BREAK a NOW"), ":1");
    assert_eq!(client.reply(), "\"an operator has broken the lock\"");
    assert_eq!(client.ask("UNLOCK a"), ":0");
    assert_eq!(client.ask("QUIT"), "OK");
    assert!(client.try_reply().is_err());
}

#[test]
fn a_waiter_whose_server_dies_asks_another() {
    let mut group = Group::start();
    let mut holder = group.client(2);
    holder.lock("LOCK a");
    let servers: Vec<&str> =
        group.servers[..2].iter().map(|server| server.socket.to_str().unwrap()).collect();
    let servers = servers.join(",");
    let arguments = ["run", "--at", &servers, "a", "--", "sh", "-c", "echo done"];
    let mut waiter = lock(&arguments);
    group.waiters("a", 1);
    group.servers[0].process.kill();
    waiter.says("the wait begins anew");
    assert!(waiter.status().is_none());
    drop(holder);
    waiter.exits_with(0);
    until("what the command prints", || (waiter.out() == ["done"]).then_some(()));
}

/// A script that writes when its turn begins and ends, and ends a while after it is asked to.
fn endless_turn(file: &Path) -> String {
    let file = file.display();
    format!(
        "trap 'sleep 0.5; echo out $LOCK_TOKEN >>{file}; exit' TERM; echo in $LOCK_TOKEN >>{file}; \
         while :; do sleep 0.1; done"
    )
}

#[test]
fn the_command_of_a_lease_is_stopped_before_the_next_when_lock_run_stands_still() {
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
fn the_command_of_a_lease_is_stopped_before_the_next_when_its_server_stands_still() {
    let group = Group::start();
    let file = group.path("turns");
    // The one that carries the ring would hold up everybody.
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

#[test]
fn a_command_is_stopped_when_its_server_dies_while_lock_run_stands_still_or_is_dead() {
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
        assert_eq!(group.client(2).ask("LOCK a TIMEOUT 1"), "nil", "the command still has it");
        let mut dead = group.servers.remove(0);
        dead.process.kill();
        next.exits_with(0);
        tokens_of_turns(&file, 2);
    }
}

#[test]
fn locks_outlive_a_group_that_stops_and_those_of_its_clients_are_released_in_order() {
    let mut group = Group::start_with(true);
    let mut brief = group.client(0);
    let mut lingering = group.client(1);
    let before = [brief.lock("LOCK brief"), lingering.lock("LOCK lingering LINGER 30 OWNER me")];
    for server in &mut group.servers {
        server.process.kill();
    }
    group.servers(true);
    let mut client = group.client(2);
    let after = client.lock("LOCK brief");
    assert!(before.iter().all(|token| *token < after), "{before:?} {after}");
    assert_eq!(client.ask("LOCK lingering TRY"), "nil");
    let list = client.ask("LIST");
    assert!(list.contains(&format!("[:{} \"exclusive\" \"me\"", before[1])), "{list}");
    assert!(list.contains("\"lost\""), "{list}");
    assert_eq!(client.ask("BREAK lingering NOW"), ":1");
    assert!(client.lock("LOCK lingering") > after);
}

#[test]
fn status_tells_how_a_server_is_what_it_waits_for_and_who_is_there() {
    let mut group = Group::start();
    let status = |group: &Group| {
        let mut status = group.lock(0, "status", &[]);
        status.exits_with(0);
        let last = |line: &String| line.starts_with('3');
        until("the members", || Some(status.out()).filter(|out| out.iter().any(last)))
    };
    let has = |out: &[String], part: &str| out.iter().any(|line| line.starts_with(part));
    let told = status(&group);
    for part in ["id: 1", "role: ", "epoch: ", "committed: ", "obstacle:", "transfer:", "REPLICA "]
    {
        assert!(has(&told, part), "{part}: {told:?}");
    }
    assert!(has(&told, "voters: 1,2,3"), "{told:?}");
    for server in &mut group.servers[1..] {
        server.process.kill();
    }
    until("what it waits for", || {
        has(&status(&group), "obstacle: waiting for a majority of 1 2 3: have 1").then_some(())
    });
    assert!(status(&group).iter().any(|line| line.starts_with("3  ") && line.contains("not here")));
}

#[test]
fn a_server_of_another_cluster_is_told_with_what_to_do() {
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
