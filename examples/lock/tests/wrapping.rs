//! `lock run` treats its command as flock(1), nohup(1), tini and systemd expect of a wrapper
//! program.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use service_lib::testing::{Process, Terminal, guard_of};

mod common;
use common::{Group, PROGRAM, lock, until};

/// Starts a script at a terminal, with the group's address in the environment.
fn terminal(group: &Group, script: &str) -> Terminal {
    Terminal::start(PROGRAM, script, &[("PLAINSONG_AT", group.servers[0].socket.to_str().unwrap())])
}

#[track_caller]
fn number_in(path: &Path) -> u32 {
    until("a number in a file", || {
        let text = fs::read_to_string(path).ok()?;
        text.ends_with('\n').then(|| text.trim().parse().ok())?
    })
}

/// Returns a command that writes its process id to the file `pid` and runs until `go` exists. Once
/// the id is there, `lock run` knows that it holds the lock. A server lists the lock as held
/// earlier.
fn runs_until(group: &Group, go: &Path) -> String {
    let pid = group.path("pid");
    format!("echo $$ >{}; until test -e {}; do sleep 0.05; done", pid.display(), go.display())
}

#[test]
fn the_executable_may_be_replaced_while_it_runs() {
    let group = Group::start();
    let (program, other) = (group.path("lock"), group.path("other"));
    fs::copy(PROGRAM, &program).unwrap();
    let run = |script: &str| {
        let mut command = Command::new(&program);
        command.args(["run", "--at"]).arg(&group.servers[0].socket);
        command.args(["a", "--", "sh", "-c", script]);
        Process::by(command)
    };
    let go = group.path("go");
    let mut first = run(&format!("until test -e {}; do sleep 0.05; done", go.display()));
    until("the first to hold the lock", || {
        group.client(1).ask("LIST").contains("[[\"a\" :1").then_some(())
    });
    let mut second = run("echo second");
    group.waiters("a", 1);
    fs::copy(PROGRAM, &other).unwrap();
    fs::rename(&other, &program).unwrap();
    fs::write(&go, "").unwrap();
    first.exits_with(0);
    second.exits_with(0);
    until("what the second prints", || (second.out() == ["second"]).then_some(()));
}

#[test]
fn a_command_can_read_from_the_terminal_while_its_stdin_is_a_pipe() {
    let group = Group::start();
    let script =
        "echo x | lock run t -- sh -c 'echo ask; read a </dev/tty; echo got=$a'; echo rc=$?";
    let mut terminal = terminal(&group, script);
    terminal.shows("ask");
    terminal.types("hello\n");
    terminal.shows("got=hello");
    terminal.shows("rc=0");
}

#[test]
fn a_command_can_read_stdin_from_the_terminal_and_configure_it() {
    let group = Group::start();
    let script = "lock run t -- sh -c 'echo ask; read a; echo got=$a'; echo rc=$?; \
                  lock run t -- stty -F /dev/tty -echo </dev/null; echo stty=$?";
    let mut terminal = terminal(&group, script);
    terminal.shows("ask");
    terminal.types("hello\n");
    terminal.shows("got=hello");
    terminal.shows("rc=0");
    terminal.shows("stty=0");
}

#[test]
fn ctrl_c_interrupts_a_command_exactly_once() {
    let group = Group::start();
    let script = "trap : INT; lock run t -- sh -c 'trap \"echo INTERRUPTED\" INT; echo begun; sleep 1000; \
                  sleep 1; exit 7'; echo rc=$?";
    let mut terminal = terminal(&group, script);
    terminal.shows("begun");
    terminal.types("\x03");
    terminal.shows("rc=7");
    assert_eq!(terminal.screen().matches("INTERRUPTED").count(), 1, "{}", terminal.screen());
}

#[test]
fn a_signal_to_lock_run_alone_reaches_a_command_at_a_terminal() {
    let group = Group::start();
    let begun = group.path("begun");
    let script = format!(
        "lock run t -- sh -c 'trap \"echo INTERRUPTED; exit 7\" INT; touch {0}; \
         while :; do sleep 0.1; done' & \
         until test -e {0}; do sleep 0.1; done; kill -INT $!; wait $!; echo rc=$?",
        begun.display()
    );
    let terminal = terminal(&group, &script);
    terminal.shows("rc=7");
    let screen = terminal.screen();
    assert_eq!(screen.matches("\nINTERRUPTED").count(), 1, "{screen}");
}

#[test]
fn ctrl_z_stops_a_command_and_fg_continues_it() {
    let group = Group::start();
    let go = group.path("go");
    let script = format!(
        "set -m; lock run t -- sh -c 'echo begun; until test -e {}; do sleep 0.1; done; echo end'; \
         jobs; fg; echo rc=$?",
        go.display()
    );
    let mut terminal = terminal(&group, &script);
    terminal.shows("begun");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    fs::write(&go, "").unwrap();
    terminal.shows("end");
    terminal.shows("rc=0");
}

#[test]
fn a_command_under_nohup_survives_a_hangup() {
    let group = Group::start();
    let (pid, go) = (group.path("pid"), group.path("go"));
    let script =
        format!("echo $$ >{}; until test -e {}; do sleep 0.05; done", pid.display(), go.display());
    let mut command = Command::new("nohup");
    command.args([PROGRAM, "run", "--at"]).arg(&group.servers[0].socket);
    command.args(["a", "--", "sh", "-c", &script]);
    let mut job = Process::by(command);
    let command = number_in(&pid);
    for pid in [job.pid(), guard_of(job.pid()), command] {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::HUP).unwrap();
    }
    fs::write(&go, "").unwrap();
    job.exits_with(0);
}

/// A command that counts SIGTERMs until it gets SIGUSR2.
const COUNTS: &str = "n=0; end=0; trap 'n=$((n + 1)); touch seen' TERM; trap end=1 USR2; \
                      echo $$ >pid; until test $end = 1; do sleep 0.05; done; echo $n times";

#[test]
fn a_command_gets_one_signal_whether_it_is_sent_to_all_processes_or_to_lock_run_alone() {
    let group = Group::start();
    for to_all in [true, false] {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--at"]).arg(&group.servers[0].socket);
        command.args(["a", "--", "sh", "-c", COUNTS]).current_dir(group.path(""));
        let mut job = Process::by(command);
        let [command, guard] = [number_in(&group.path("pid")), guard_of(job.pid())];
        let seen = || until("the signal", || group.path("seen").exists().then_some(()));
        if to_all {
            // Without this order, two signals could count as one.
            kill_process(Pid::from_raw(command.cast_signed()).unwrap(), Signal::TERM).unwrap();
            seen();
            kill_process(Pid::from_raw(guard.cast_signed()).unwrap(), Signal::TERM).unwrap();
        }
        job.signal(Signal::TERM);
        seen();
        // Signals are passed on in order, so a second SIGTERM would arrive before this one.
        job.signal(Signal::USR2);
        job.exits_with(0);
        until("the count", || (job.out() == ["1 times"]).then_some(()));
        fs::remove_file(group.path("seen")).unwrap();
        fs::remove_file(group.path("pid")).unwrap();
    }
}

#[test]
fn processes_left_by_a_command_keep_the_lock_and_are_stopped_when_it_is_lost() {
    let mut group = Group::start();
    let pid = group.path("pid");
    // It runs in a session of its own, so it cannot be found by process group.
    let script = format!(
        "setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000' & \
         until test -e {0}; do sleep 0.05; done; exit 3",
        pid.display()
    );
    for is_lost in [false, true] {
        group.run(0, &["--kill-after", "1", "a"], &script).exits_with(3);
        let left = Pid::from_raw(number_in(&pid).cast_signed()).unwrap();
        group.lock(1, "try", &["a"]).exits_with(1);
        let mut next = group.client(1);
        next.send("LOCK a");
        group.waiters("a", 1);
        if is_lost {
            group.servers.remove(0).process.kill();
        } else {
            kill_process(left, Signal::KILL).unwrap();
        }
        next.token();
        let is_alive = fs::read_to_string(format!("/proc/{}/stat", left.as_raw_nonzero()))
            .is_ok_and(|stat| !stat.contains(") Z "));
        assert!(!is_alive);
        fs::remove_file(&pid).unwrap();
        if is_lost {
            return;
        }
    }
}

/// Runs `lock` as the first process of a process namespace, as in a container.
fn as_first_process(arguments: &[&str]) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    command.arg(PROGRAM).args(arguments);
    Process::by(command)
}

/// Returns the only child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

#[test]
fn as_the_first_process_of_a_container_it_ends_on_signals_and_reaps_orphans() {
    let group = Group::start();
    let at = group.servers[0].socket.to_str().unwrap();
    let mut holder = group.client(1);
    holder.lock("LOCK a");
    let mut waiting = as_first_process(&["run", "--at", at, "a", "--", "true"]);
    group.waiters("a", 1);
    let first = until("the first process", || child_of(waiting.pid()));
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::TERM).unwrap();
    waiting.exits_with(128 + 15);
    // The shell's child leaves a child behind, which ends before the script checks for zombies.
    let script = "sh -c 'sh -c \"echo \\$\\$\" >orphan & exit' ; \
                  until test -s orphan; do sleep 0.05; done; read pid <orphan; \
                  while test -e /proc/$pid; do sleep 0.05; done; echo reaped";
    let script = format!("cd {} && {script}", group.path("").display());
    let mut orphans = as_first_process(&["run", "--at", at, "b", "--", "sh", "-c", &script]);
    orphans.exits_with(0);
    until("the end of the orphan", || (orphans.out() == ["reaped"]).then_some(()));
}

#[test]
fn a_command_keeps_its_lock_when_its_server_is_stopped_or_killed() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut group = Group::start();
        let go = group.path("go");
        let (pid, script) = (group.path("pid"), runs_until(&group, &go));
        let mut holder = group.run_at(&[0, 1, 2], &["a"], &script);
        number_in(&pid);
        let held = until("a holder", || group.held(1, "a"));
        let mut next = group.client(1);
        next.send("LOCK a");
        group.waiters("a", 1);
        let gone = group.servers.remove(0);
        gone.process.signal(signal);
        holder.says("; moved a to ");
        assert_eq!(group.held(1, "a"), Some(held), "the token should not change");
        fs::write(&go, "").unwrap();
        holder.exits_with(0);
        assert!(next.token() > held);
    }
}

#[test]
fn a_leased_lock_is_kept_when_its_server_is_killed() {
    let mut group = Group::start();
    let go = group.path("go");
    let (pid, script) = (group.path("pid"), runs_until(&group, &go));
    let mut holder = group.run_at(&[0, 1, 2], &["--lease", "30", "a"], &script);
    number_in(&pid);
    let held = until("a holder", || group.held(1, "a"));
    group.servers.remove(0).process.kill();
    holder.says("; moved a to ");
    assert_eq!(group.held(1, "a"), Some(held));
    fs::write(&go, "").unwrap();
    holder.exits_with(0);
    group.lock(1, "try", &["a"]).exits_with(0);
}

#[test]
fn a_command_keeps_a_moved_lock_after_lock_run_is_killed() {
    let mut group = Group::start();
    let pid = group.path("pid");
    let script = format!("echo $$ >{}; exec sleep 1000", pid.display());
    let mut holder = group.run_at(&[0, 1, 2], &["a"], &script);
    let command = Pid::from_raw(number_in(&pid).cast_signed()).unwrap();
    group.servers.remove(0).process.kill();
    holder.says("; moved a to ");
    holder.kill();
    assert_eq!(group.client(0).ask("LOCK a TIMEOUT 1"), "nil", "the command still has the lock");
    kill_process(command, Signal::KILL).unwrap();
    group.client(0).lock("LOCK a");
}

#[test]
fn a_frozen_server_is_skipped_for_the_next_address() {
    let group = Group::start();
    // Freezing the server that carries the ring would freeze the whole group.
    let [first, second] = [1, 2].map(|at| (group.hub() + at) % 3);
    let all = [first, second, group.hub()];
    let go = group.path("go");
    let (pid, script) = (group.path("pid"), runs_until(&group, &go));
    let mut holder = group.run_at(&all, &["held"], &script);
    number_in(&pid);
    let held = until("a holder", || group.held(second, "held"));
    let mut other = group.client(second);
    other.lock("LOCK other");
    let mut waiter = group.run_at(&all, &["other"], "true");
    group.waiters("other", 1);
    group.servers[first].process.signal(Signal::STOP);
    let at: Vec<&str> = all.iter().map(|at| group.servers[*at].socket.to_str().unwrap()).collect();
    let at = at.join(",");
    lock(&["run", "--at", &at, "--timeout", "30", "a", "--", "true"]).exits_with(0);
    lock(&["try", "--at", &at, "a"]).exits_with(0);
    lock(&["try", "--at", &at, "other"]).exits_with(1);
    for verb in ["ls", "status", "members"] {
        lock(&[verb, "--at", &at]).exits_with(0);
    }
    lock(&["break", "--at", &at, "nobody-holds-it"]).exits_with(1);
    // Clients that were already connected to it notice too.
    holder.says("; moved held to ");
    assert_eq!(group.held(second, "held"), Some(held));
    waiter.says("waiting again");
    fs::write(&go, "").unwrap();
    holder.exits_with(0);
    // When it resumes, earlier requests of its clients have no effect.
    group.servers[first].process.signal(Signal::CONT);
    assert_eq!(other.ask("UNLOCK other"), ":1");
    waiter.exits_with(0);
}
