//! Three members, as processes on the embedded transport: one runs the command, whatever happens
//! to the members. What the command writes to is guarded: who finds it in use says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use service_lib::testing::{Process, guard_of, until};

/// Holds a lock while it runs, so that another at the same time is noticed. It does not
/// stop at once.
const WORK: &str = "
    exec 9>guard
    flock -n 9 || echo \"OVERLAP $ELECTION_ID $ELECTION_TOKEN\" >> log
    echo \"begin $ELECTION_ID $ELECTION_TOKEN $ELECTION_GROUP\" >> log
    trap 'sleep 0.2; exit' TERM
    while :; do sleep 0.05; done";

struct Group {
    directory: tempfile::TempDir,
    variables: &'static [(&'static str, &'static str)],
    /// What carries the ring, if that is none of the members.
    ring: Option<Process>,
    members: Vec<Process>,
}

impl Group {
    fn start(script: &str, options: &[&[&str]; 3]) -> Self {
        let mut group = Self::empty(&[]);
        group.start_members(script, options);
        group
    }

    fn empty(variables: &'static [(&'static str, &'static str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, variables, ring: None, members: Vec::new() }
    }

    /// None of its members carries the ring for the others, so that any may stand still. They
    /// have these variables in their environment.
    fn start_beside_the_ring(variables: &'static [(&'static str, &'static str)]) -> Self {
        let mut group = Self::empty(variables);
        let mut command = election();
        command.args(["run", "ring", "--id", "1", "--voters", "1", "--engine"]);
        command.arg(format!("embedded:{}", group.path("ring").display()));
        command.args(["--", "sleep", "1000"]);
        let ring = Process::by(command);
        ring.says("this process is the hub");
        group.ring = Some(ring);
        group.start_members(WORK, &[&[]; 3]);
        group
    }

    fn start_members(&mut self, script: &str, options: &[&[&str]; 3]) {
        for (id, options) in (1..).zip(options) {
            let member = self.member(id, script, options);
            self.members.push(member);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn member(&self, id: u32, script: &str, options: &[&str]) -> Process {
        let directory = self.directory.path();
        let mut command = election();
        command
            .args(["run", "work", "--id", &id.to_string()])
            // Who comes to a group that exists names no voters.
            .args(if id <= 3 { &["--voters", "1,2,3"][..] } else { &[] })
            .args(["--engine", &format!("embedded:{}", self.path("ring").display())])
            .arg("--socket")
            .arg(self.socket(id))
            .arg("--data-dir")
            .arg(self.path(&format!("data{id}")))
            .args(["--lease", "1.5", "--kill-after", "1"])
            .args(options)
            .args(["--", "sh", "-c", script])
            .current_dir(directory)
            .envs(self.variables.iter().copied());
        Process::by(command)
    }

    fn socket(&self, id: u32) -> PathBuf {
        self.path(&format!("{id}.sock"))
    }

    fn ask(&self, id: u32, verb: &str) -> Output {
        election().arg(verb).arg("--at").arg(self.socket(id)).output().unwrap()
    }

    /// What the commands wrote, in order: who, and with which token.
    #[track_caller]
    fn begun(&self) -> Vec<(u32, u64)> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let begun: Vec<_> = log
            .lines()
            .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                ["begin", id, token, "work"] => (id.parse().unwrap(), token.parse().unwrap()),
                _ => panic!("{log}{}", self.said()),
            })
            .collect();
        assert!(begun.is_sorted_by(|a, b| a.1 < b.1), "tokens do not grow: {log}");
        begun
    }

    /// Waits until a command has begun with a higher token; who ran the first such.
    #[track_caller]
    fn leader_after(&self, token: u64) -> (u32, u64) {
        until("a leader", || self.begun().into_iter().find(|(_, begun)| *begun > token))
    }

    fn said(&self) -> String {
        self.members.iter().flat_map(Process::err).collect::<Vec<_>>().join("\n")
    }

    fn replace(&mut self, id: u32, script: &str) {
        let member = self.member(id, script, &[]);
        self.members[id as usize - 1] = member;
    }

    /// Waits until the member is in step with the others.
    #[track_caller]
    fn is_ready(&self, id: u32) {
        until("a member in step", || {
            let told = self.ask(id, "status");
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            let in_step = told.contains("role: voter") || told.contains("role: sequencer");
            in_step.then_some(())
        });
    }
}

fn election() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_election"));
    command.env_remove("RUST_LOG").env_remove("PLAINSONG_AT");
    command
}

#[test]
fn metrics_are_told_and_logs_are_json_where_that_is_wanted() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    let options = ["--metrics", &address, "--log-format", "json"];
    let busy = election()
        .args(["run", "work", "--id", "1", "--voters", "1", "--engine", "embedded:ring"])
        .args(options)
        .args(["--", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert_eq!(busy.status.code(), Some(1), "{said}");
    assert!(said.contains("choose another with --metrics"), "{said}");
    drop(port);
    let group = Group::start(WORK, &[&options, &[], &[]]);
    group.leader_after(0);
    let ask = || {
        let mut stream = std::net::TcpStream::connect(&address).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 OK\r\n").then_some(answer)
    };
    until("metrics of a group of three", || {
        let answer = ask()?;
        let has = |line: &str| answer.lines().any(|other| other == line);
        (has("plainsong_voters_here 3") && has("plainsong_waiting 0")).then_some(())?;
        let role = ["sequencer", "voter"]
            .iter()
            .filter(|role| has(&format!("plainsong_role{{role=\"{role}\"}} 1")));
        assert_eq!(role.count(), 1, "{answer}");
        assert_eq!(answer.matches("# TYPE plainsong_role gauge").count(), 1, "{answer}");
        Some(())
    });
    let json = group.said();
    let is_json = |line: &str| line.starts_with("{\"timestamp\":") && line.ends_with('}');
    assert!(json.lines().any(is_json), "{json}");
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn members_are_listed_added_and_removed() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (_, token) = group.leader_after(0);
    for id in 1..=3 {
        group.is_ready(id);
    }
    let socket = group.socket(1);
    let members = |change: &[&str]| {
        let mut command = election();
        command.args(["members", "--at"]).arg(&socket).args(change);
        command.output().unwrap()
    };
    let is_row = |line: &str, id: &str, votes: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        cells.first() == Some(&id) && cells.get(2) == Some(&votes)
    };
    let list = told(&members(&[]));
    for id in ["1", "2", "3"] {
        assert!(list.lines().any(|line| is_row(line, id, "yes")), "{list}");
    }
    let fourth = group.member(4, WORK, &[]);
    told(&members(&["add", "4"]));
    until("the new voter in the list", || {
        told(&members(&["list"])).lines().any(|line| is_row(line, "4", "yes")).then_some(())
    });
    told(&members(&["remove", "2"]));
    until("the old voter in the list", || {
        told(&members(&[])).lines().any(|line| is_row(line, "2", "no")).then_some(())
    });
    let nonsense = members(&["add", "0"]);
    assert_eq!(nonsense.status.code(), Some(69));
    let said = String::from_utf8_lossy(&nonsense.stderr).into_owned();
    assert!(said.contains("a replica has a number, from 1"), "{said}");
    assert_eq!(group.begun(), [(group.begun()[0].0, token)]);
    group.members.push(fourth);
}

#[test]
fn one_member_goes_on_alone_when_it_is_confirmed_twice() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (_, token) = group.leader_after(0);
    for id in 1..=3 {
        group.is_ready(id);
    }
    let socket = group.socket(1);
    let force = |answers: &str| {
        let mut command = election();
        command.args(["force-new-cluster", "--at"]).arg(&socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let word_of = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let word = text.split("says so: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        word.expect(&text).to_owned()
    };
    let refused = force("no\n");
    assert_eq!(refused.status.code(), Some(1));
    let word = word_of(&refused);
    // A majority is there.
    assert_eq!(force(&format!("yes\n{word}\n")).status.code(), Some(69));
    let lost = group.members.split_off(1);
    drop(lost);
    until("the loss of the majority", || {
        let text = String::from_utf8_lossy(&force("no\n").stdout).into_owned();
        text.contains("are not here, or have lost their stores: 2 3.").then_some(())
    });
    assert_eq!(force("yes\nnonsense\n").status.code(), Some(69));
    told(&force(&format!("yes\n{word}\n")));
    // If it led before, it may lead still.
    until("the one that is left to lead", || {
        let status = String::from_utf8_lossy(&group.ask(1, "status").stdout).into_owned();
        let leads = status.starts_with("leader: 1, ") && status.contains("runs the command");
        leads.then_some(())
    });
    until("its command", || {
        group.begun().iter().find(|last| last.0 == 1 && last.1 >= token).copied()
    });
}

/// As many as the environment says, and few by default.
fn kills() -> u32 {
    std::env::var("PLAINSONG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn when_the_leader_is_killed_another_takes_over_and_no_two_run_at_once() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let mut last = group.leader_after(0);
    for _ in 0..kills() {
        for id in 1..=3 {
            group.is_ready(id);
        }
        // The command may have gone to another by itself, on a machine that is too busy.
        last = *group.begun().last().unwrap();
        group.members[last.0 as usize - 1].kill();
        let next = group.leader_after(last.1);
        group.replace(last.0, WORK);
        last = next;
    }
    assert!(group.begun().len() > kills() as usize);
    // The guards of those who were killed have stopped their commands.
    drop(group.members.drain(..));
    until("the end of all commands", || {
        let guard = fs::File::open(group.path("guard")).unwrap();
        rustix::fs::flock(&guard, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()
    });
    assert!(last.1 > 0);
}

#[test]
fn who_is_asked_to_stop_stops_its_command_and_the_next_begins_at_once() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    group.members[id as usize - 1].signal(Signal::TERM);
    group.members[id as usize - 1].exits_with(0);
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}

#[test]
fn who_resigns_hands_over_to_the_best_of_the_others() {
    let group = Group::start(WORK, &[&[], &["--priority", "-1"], &["--priority", "-1"]]);
    let (id, token) = group.leader_after(0);
    for id in 1..=3 {
        group.is_ready(id);
    }
    until("all to stand", || {
        let told = String::from_utf8(group.ask(1, "status").stdout).unwrap();
        (told.matches("stands: ").count() == 3).then_some(())
    });
    assert_eq!(group.ask(id % 3 + 1, "resign").status.code(), Some(0));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
    if id != 1 {
        assert_eq!(next, 1);
    }
    let told = group.ask(id, "status");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(&format!("leader: {next}, token ")), "{told}");
    assert!(told.contains("stands: 1, priority 0\n"), "{told}");
    assert!(told.contains("voters: 1,2,3\n"), "{told}");
}

#[test]
fn when_the_command_ends_the_member_ends_with_its_code_and_another_takes_over() {
    let script = "echo \"begin $ELECTION_ID $ELECTION_TOKEN $ELECTION_GROUP\" >> log; exit 7";
    let mut group = Group::start(script, &[&[]; 3]);
    let mut token = 0;
    for _ in 0..2 {
        let (id, next) = group.leader_after(token);
        group.members[id as usize - 1].exits_with(7);
        token = next;
    }
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let ring = format!("embedded:{}", directory.path().join("ring").display());
    let no_ring = format!("embedded:{}", directory.path().join("none/ring").display());
    let base = ["run", "work", "--voters", "1,2,3", "--id"];
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let no_socket = file.to_str().unwrap();
    for (arguments, code, told) in [
        (&["run"][..], 64, "COMMAND"),
        (
            &[&base[..], &["4", "--engine", &ring, "--", "true"]].concat(),
            1,
            "name all first voters",
        ),
        (
            &[&base[..], &["1", "--engine", &no_ring, "--", "true"]].concat(),
            1,
            "there is no directory",
        ),
        (
            &[&base[..], &["1", "--engine", &ring, "--listen", "0.0.0.0:0", "--", "true"]].concat(),
            1,
            "add --allow-remote",
        ),
        (
            &[&base[..], &["1", "--engine", &ring, "--socket", no_socket, "--", "true"]].concat(),
            1,
            "it is not a socket, and is left alone",
        ),
        (&["status", "--at", "./nowhere"], 69, "no replica answers"),
    ] {
        let output = election().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
}

#[test]
fn a_busy_port_and_a_folder_of_another_are_told_with_a_remedy() {
    let group = Group::start(WORK, &[&[]; 3]);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    let ring = format!("embedded:{}", group.path("ring").display());
    let data = group.path("data1").display().to_string();
    let taken = group.socket(1).display().to_string();
    group.is_ready(1);
    for (options, told) in [
        (["--listen", &busy], "choose another with --listen"),
        (["--metrics", &busy], "choose another with --metrics"),
        (["--socket", &taken], "another process does; stop it"),
        (["--data-dir", &data], &format!("process {}", group.members[0].pid())),
    ] {
        let base = ["run", "work", "--id", "4", "--engine", &ring];
        let output = election().args(base).args(options).args(["--", "true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{options:?}: {said}");
        assert!(said.contains(told), "{options:?}: {said}");
    }
    drop(group.members);
    let base = ["run", "work", "--id", "4", "--engine", &ring, "--data-dir", &data, "--", "true"];
    let output = election().args(base).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to") && said.contains("give each its own"), "{said}");
}

#[test]
fn a_member_of_another_cluster_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, id: u32| directory.path().join(format!("{name}{id}"));
    let run = |id: u32, ring: u32| {
        let number = id.to_string();
        let mut command = election();
        command
            .args(["run", "work", "--id", &number, "--voters", &number])
            .args(["--engine", &format!("embedded:{}", path("ring", ring).display()), "--data-dir"])
            .arg(path("data", id))
            .args(["--", "sh", "-c", &format!("touch ran{id}; exec sleep 1000")])
            .current_dir(directory.path());
        Process::by(command)
    };
    for id in [1, 2] {
        let _alone = run(id, id);
        until("a cluster of one", || path("ran", id).exists().then_some(()));
    }
    let both = [1, 2].map(|id| run(id, 3));
    for member in &both {
        member.says("belongs to another cluster and is ignored: give one of the two another group");
    }
}

#[cfg(not(feature = "corosync"))]
#[test]
fn an_engine_that_is_not_built_in_is_told_with_how_to_build_it() {
    let run = ["run", "work", "--id", "1", "--engine", "corosync", "--", "true"];
    let output = election().args(run).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("build its package again with `--features corosync`"), "{said}");
}

#[test]
fn a_command_that_is_not_there_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let ring = format!("embedded:{}", directory.path().join("ring").display());
    let output = election()
        .args(["run", "work", "--id", "1", "--voters", "1", "--engine", &ring])
        .args(["--", "/nowhere/command"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("cannot run /nowhere/command"), "{said}");
}

#[test]
fn a_leader_that_stands_still_loses_its_place_and_its_command_stops_before_the_next_begins() {
    let mut group = Group::start_beside_the_ring(&[]);
    let (id, token) = group.leader_after(0);
    for other in 1..=3 {
        group.is_ready(other);
    }
    group.members[id as usize - 1].signal(Signal::STOP);
    let since = Instant::now();
    // What the next writes would tell of an overlap.
    let (next, token) = group.leader_after(token);
    eprintln!("the next began after {:?}", since.elapsed());
    assert_ne!(next, id);
    group.members[id as usize - 1].signal(Signal::CONT);
    // It stands again, and leads again when the next is gone.
    until("the former leader to stand", || {
        let told = String::from_utf8_lossy(&group.ask(id, "status").stdout).into_owned();
        told.contains(&format!("stands: {id}, ")).then_some(())
    });
    group.members[next as usize - 1].signal(Signal::TERM);
    group.members[next as usize - 1].exits_with(0);
    group.leader_after(token);
}

#[test]
fn a_leader_that_is_told_to_stop_does_so_while_its_guard_stands_still() {
    let group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    for other in 1..=3 {
        group.is_ready(other);
    }
    let guard = guard_of(group.members[id as usize - 1].pid());
    kill_process(Pid::from_raw(guard as i32).unwrap(), Signal::STOP).unwrap();
    assert_eq!(group.ask(id, "resign").status.code(), Some(0));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}

/// A successor that does not wait is noticed by what these tests watch.
#[cfg(feature = "canaries")]
#[test]
#[should_panic = "OVERLAP"]
fn a_successor_that_does_not_wait_is_noticed() {
    let group = Group::start_beside_the_ring(&[("ELECTION_CANARY", "overlap")]);
    let (id, token) = group.leader_after(0);
    for other in 1..=3 {
        group.is_ready(other);
    }
    group.members[id as usize - 1].signal(Signal::STOP);
    assert_eq!(group.ask(id % 3 + 1, "resign").status.code(), Some(0));
    group.leader_after(token);
    until("an overlap", || {
        group.begun();
        None::<()>
    });
}

#[test]
fn a_command_whose_guard_is_killed_is_stopped_and_another_takes_over() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    let guard = guard_of(group.members[id as usize - 1].pid());
    kill_process(Pid::from_raw(guard as i32).unwrap(), Signal::KILL).unwrap();
    group.members[id as usize - 1].exits_with(71);
    assert!(group.said().contains("the process that guards the command was killed"));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}
