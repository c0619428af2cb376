//! Metrics, logs, and membership changes.

use std::io::{Read, Write};
use std::process::{Output, Stdio};

use service_lib::testing::until;

use super::{Group, WORK, election};

#[test]
fn metrics_and_json_logs_are_available() {
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
    assert!(said.contains("choose another address with --metrics"), "{said}");
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

fn stdout_of(output: &Output) -> String {
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
    let list = stdout_of(&members(&[]));
    for id in ["1", "2", "3"] {
        assert!(list.lines().any(|line| is_row(line, id, "yes")), "{list}");
    }
    let fourth = group.member(4, WORK, &[]);
    stdout_of(&members(&["add", "4"]));
    until("the new voter in the list", || {
        stdout_of(&members(&["list"])).lines().any(|line| is_row(line, "4", "yes")).then_some(())
    });
    stdout_of(&members(&["remove", "2"]));
    until("the old voter in the list", || {
        stdout_of(&members(&[])).lines().any(|line| is_row(line, "2", "no")).then_some(())
    });
    let nonsense = members(&["add", "0"]);
    assert_eq!(nonsense.status.code(), Some(69));
    let said = String::from_utf8_lossy(&nonsense.stderr).into_owned();
    assert!(said.contains("a replica id is a whole number from 1"), "{said}");
    assert_eq!(group.begun(), [(group.begun()[0].0, token)]);
    group.members.push(fourth);
}

#[test]
fn force_new_cluster_needs_two_confirmations() {
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
    let code_of = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let code = text.split("Confirmation code: ").nth(1);
        let code = code.and_then(|rest| rest.split_whitespace().next());
        code.expect(&text).to_owned()
    };
    let refused = force("no\n");
    assert_eq!(refused.status.code(), Some(1));
    let code = code_of(&refused);
    // It is refused while there is a majority.
    assert_eq!(force(&format!("yes\n{code}\n")).status.code(), Some(69));
    let lost = group.members.split_off(1);
    drop(lost);
    until("the loss of the majority", || {
        let text = String::from_utf8_lossy(&force("no\n").stdout).into_owned();
        text.contains("Absent, or returned without their data: 2 3.").then_some(())
    });
    assert_eq!(force("yes\nnonsense\n").status.code(), Some(69));
    stdout_of(&force(&format!("yes\n{code}\n")));
    // If it was the leader before, it may still be.
    until("the remaining member to lead", || {
        let status = String::from_utf8_lossy(&group.ask(1, "status").stdout).into_owned();
        let leads = status.starts_with("leader: 1, ") && status.contains("runs the command");
        leads.then_some(())
    });
    until("its command", || {
        group.begun().iter().find(|last| last.0 == 1 && last.1 >= token).copied()
    });
}
