//! `election run` treats its command as terminals, service managers and containers expect of a
//! wrapper program.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use service_lib::testing::{Process, Terminal, guard_of, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_election");

/// Starts a member that is a group of its own, in the directory `folder`.
fn alone(program: &Path, folder: &Path, options: &[&str], script: &str) -> Process {
    let mut command = Command::new(program);
    command.args(["run", "work", "--id", "1", "--voters", "1", "--engine"]);
    command.arg(format!("embedded:{}", folder.join("ring").display()));
    command.args(["--socket", "socket"]).args(options).args(["--", "sh", "-c", script]);
    command.current_dir(folder);
    Process::by(command)
}

#[track_caller]
fn pid_in(path: &Path) -> Pid {
    until("a number in a file", || {
        let text = fs::read_to_string(path).ok()?;
        text.ends_with('\n').then(|| text.trim().parse().ok().and_then(Pid::from_raw))?
    })
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_member_can_lead_after_its_executable_was_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::copy(PROGRAM, path("election")).unwrap();
    // The first member leads, and so starts a command, only once the second voter is there.
    let member = |id: &str| {
        let mut command = Command::new(path("election"));
        command.args(["run", "work", "--id", id, "--voters", "1,2", "--engine"]);
        command.arg(format!("embedded:{}", path("ring").display()));
        command.args(["--", "sh", "-c", "touch begun; exec sleep 1000"]);
        command.current_dir(directory.path());
        Process::by(command)
    };
    let first = member("1");
    first.says("waiting for all of 1 2");
    fs::copy(PROGRAM, path("new")).unwrap();
    fs::rename(path("new"), path("election")).unwrap();
    let _second = member("2");
    until("a command", || path("begun").exists().then_some(()));
    assert!(!first.err().iter().any(|line| line.contains("cannot run")));
}

#[test]
fn a_command_gets_one_sigterm_when_all_processes_of_a_service_get_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    // It runs for a while after the first signal.
    let script = "n=0; left=60; trap 'n=$((n + 1)); touch told' TERM; echo $$ >pid; \
                  until test $left = 0; do sleep 0.05; test $n = 0 || left=$((left - 1)); done; \
                  echo $n times >end";
    let mut member = alone(Path::new(PROGRAM), directory.path(), &["--kill-after", "60"], script);
    let command = pid_in(&path("pid"));
    let guard = Pid::from_raw(guard_of(member.pid()).cast_signed()).unwrap();
    kill_process(command, Signal::TERM).unwrap();
    // If the member passed the signal on before that, two signals could count as one.
    until("the signal", || path("told").exists().then_some(()));
    kill_process(guard, Signal::TERM).unwrap();
    member.signal(Signal::TERM);
    member.exits_with(0);
    assert_eq!(fs::read_to_string(path("end")).unwrap(), "1 times\n");
}

#[test]
fn processes_left_by_a_command_are_stopped_in_any_session() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    // It runs in a session of its own, so it cannot be found by process group. It stops in order.
    let script = "setsid sh -c 'trap \"echo stopped >stopped; exit\" TERM; echo $$ >pid; \
                  while :; do sleep 0.05; done' & until test -s pid; do sleep 0.05; done; exit 7";
    let mut member = alone(Path::new(PROGRAM), directory.path(), &[], script);
    member.exits_with(7);
    assert!(!is_alive(pid_in(&path("pid"))));
    assert!(path("stopped").exists());
}

#[test]
fn a_command_can_use_the_terminal_and_ctrl_c_stops_it_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let ring = directory.path().join("ring");
    let script = format!(
        "trap : INT; election run work --id 1 --voters 1 --engine embedded:{} -- sh -c \
         'trap \"echo INTERRUPTED; exit 3\" INT; echo ask; read a </dev/tty; echo got=$a; \
         while :; do sleep 0.05; done'; echo rc=$?",
        ring.display()
    );
    let mut terminal = Terminal::start(PROGRAM, &script, &[]);
    terminal.shows("ask");
    terminal.types("hello\n");
    terminal.shows("got=hello");
    terminal.types("\x03");
    terminal.shows("rc=0");
    let screen = terminal.screen();
    assert_eq!(screen.matches("INTERRUPTED").count(), 1, "{screen}");
}

#[test]
fn as_the_first_process_of_a_container_it_reaps_orphans() {
    let directory = tempfile::tempdir().unwrap();
    let script = "sh -c 'sh -c \"echo \\$\\$\" >orphan & exit'; \
                  until test -s orphan; do sleep 0.05; done; read pid <orphan; \
                  while test -e /proc/$pid; do sleep 0.05; done; exit 5";
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--", PROGRAM]);
    command.args(["run", "work", "--id", "1", "--voters", "1", "--engine"]);
    command.arg(format!("embedded:{}", directory.path().join("ring").display()));
    command.args(["--", "sh", "-c", script]).current_dir(directory.path());
    Process::by(command).exits_with(5);
}

#[test]
fn a_frozen_member_is_skipped_for_the_next_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let [still, live] = ["still", "live"].map(|name| {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "work", "--id", "1", "--voters", "1", "--engine"]);
        command.arg(format!("embedded:{}", path(&format!("{name}.ring"))));
        command.args(["--socket", &path(name), "--", "sleep", "1000"]);
        Process::by(command)
    });
    let at = format!("{},{}", path("still"), path("live"));
    for member in [&still, &live] {
        member.says("elected leader: the command has started");
    }
    still.signal(Signal::STOP);
    for verb in ["status", "members", "resign"] {
        Process::start(PROGRAM, &[verb, "--at", &at]).exits_with(0);
    }
    still.signal(Signal::CONT);
}
