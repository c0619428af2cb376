//! Commands are stopped when their lock is broken or their server stops.

use rustix::process::Signal;
use service_lib::testing::Process;

use super::{is_alive, pid};
use crate::common::{Group, PROGRAM, until};

#[test]
fn a_broken_lock_is_granted_only_after_its_command_was_stopped() {
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
    assert!(!is_alive(command), "the command should be dead before the next client has the lock");
    holder.exits_with(75);
    holder.says("an operator has broken the lock");
    group.lock(2, "break", &["nobody-holds-it"]).exits_with(1);
}

#[test]
fn a_command_is_stopped_with_the_right_status_when_stderr_is_full() {
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
fn a_server_that_stops_gracefully_lets_commands_stop_first() {
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
fn locks_survive_a_restart_of_the_group_and_linger_as_agreed() {
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
