//! Runs the commands of the README unchanged, except for the directory.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};

use service_lib::testing::{Process, until};

mod common;

/// Returns the README's blocks of commands, with paths in `directory`.
fn blocks(directory: &Path) -> Vec<String> {
    let here = format!("{}/", directory.display());
    let readme = include_str!("../README.md").replace("$XDG_RUNTIME_DIR/", &here);
    readme.split("```\n").skip(1).step_by(2).map(str::to_owned).collect()
}

fn shell(script: &str) -> Command {
    service_lib::testing::shell(common::PROGRAM, script)
}

#[test]
fn the_commands_of_the_readme_work() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = blocks(directory.path());
    let [build, servers, clients, by_hand] = &blocks[..] else { panic!("{blocks:?}") };
    assert!(build.starts_with("cargo build --release -p lock"));
    let start = |line: &str| Process::by(shell(&format!("exec {line}")));
    let servers: Vec<Process> = servers.lines().map(start).collect();
    assert_eq!(servers.len(), 3);
    let first = directory.path().join("lock1.sock").display().to_string();
    until("a server that answers", || {
        let status = shell(&format!("lock try --at {first} first")).status().unwrap();
        status.success().then_some(())
    });
    // Without this, the second command could run before the first one has the lock.
    let clients =
        clients.replace("sleep 60' &", "sleep 60' &\nuntil lock ls | grep -q backup; do :; done");
    let output = shell(&clients).stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for part in [
        "I have it, with token ",
        "not within 2 seconds\n",
        "taken\n",
        "backup  exclusive",
        "voters: 1,2,3\n",
        "with others\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("never"), "{said}");
    // Sends the same requests without a Redis client.
    let mut client = common::TestClient::connect(Path::new(&first)).unwrap();
    assert!(by_hand.contains(&format!("redis-cli -s {first} USAGE\n")));
    assert!(client.ask("USAGE").contains("LOCK name"));
    for line in by_hand.lines().filter_map(|line| line.strip_prefix("  ")) {
        let reply = client.ask(line);
        assert!(!reply.starts_with('-') && reply != "nil", "{line}: {reply}");
    }
}

/// Without these lines, a program that does not run as root could not write to its directories.
#[test]
fn the_systemd_units_create_the_directories_that_they_name() {
    let units = service_lib::testing::units();
    let programs: Vec<&str> = units.iter().map(|(_, start)| start[0]).collect();
    assert_eq!(programs, ["kv", "lock", "election"].map(|name| format!("/usr/local/bin/{name}")));
    for (unit, start) in &units {
        let has = |line: String| assert!(unit.lines().any(|other| other == line), "{line}: {unit}");
        let value = |option: &str| {
            let at =
                start.iter().position(|word| *word == option).unwrap_or_else(|| panic!("{unit}"));
            start[at + 1]
        };
        let [data, socket] =
            [("--data-dir", "/var/lib/"), ("--socket", "/run/")].map(|(option, root)| {
                let path = value(option).strip_prefix(root).unwrap();
                path.split('/').next().unwrap()
            });
        has(format!("StateDirectory={data}"));
        has(format!("RuntimeDirectory={socket}"));
        has(format!("User={data}"));
    }
}

#[test]
fn the_systemd_units_are_valid() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (number, (unit, start)) in service_lib::testing::units().into_iter().enumerate() {
        let path = directory.path().join(format!("{number}.service"));
        // The executable and the user named in the unit must exist.
        let unit = unit.replace(start[0], common::PROGRAM);
        let unit: String =
            unit.lines().filter(|l| !l.starts_with("User=")).map(|l| format!("{l}\n")).collect();
        std::fs::write(&path, unit).unwrap();
        let said = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let about_it = said.lines().any(|line| line.contains(&format!("{number}.service")));
        assert!(!about_it, "{said}");
    }
}

#[test]
fn the_systemd_unit_starts_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let here = |path: &str| path.replacen('/', &format!("{}/", directory.path().display()), 1);
    let (_, start) = service_lib::testing::units().swap_remove(1);
    for folder in ["/var/lib/lock-service", "/run/lock-service"] {
        std::fs::create_dir_all(here(folder)).unwrap();
    }
    let mut socket = String::new();
    let servers = [1, 2, 3].map(|id| {
        let arguments = start[1..].iter().map(|word| match *word {
            "corosync" => format!("embedded:{}", directory.path().join("ring").display()),
            "1" => id.to_string(),
            word if word.starts_with('/') => {
                here(word).replace("/1", &format!("/{id}")).replace("socket", &format!("{id}"))
            }
            word => word.to_owned(),
        });
        let arguments: Vec<String> = arguments.collect();
        socket = arguments.last().unwrap().clone();
        Process::start(common::PROGRAM, &arguments)
    });
    until("a server that answers", || {
        Process::start(common::PROGRAM, &["try", "--at", &socket, "a"])
            .ended()
            .success()
            .then_some(())
    });
    drop(servers);
}
