//! The commands of the README, as they stand there, but for the folder.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};

use service::testing::{Process, until};

mod common;

/// The blocks of commands, with paths in this folder.
fn blocks(directory: &Path) -> Vec<String> {
    let here = format!("{}/", directory.display());
    let readme = include_str!("../README.md").replace("$XDG_RUNTIME_DIR/", &here);
    readme.split("```\n").skip(1).step_by(2).map(str::to_owned).collect()
}

fn shell(script: &str) -> Command {
    service::testing::shell(common::PROGRAM, script)
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
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
    // Otherwise the first command may not have the lock yet when the second wants it.
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
    // Without a Redis client, by the same words.
    let mut client = common::Client::connect(Path::new(&first)).unwrap();
    assert!(by_hand.contains(&format!("redis-cli -s {first} USAGE\n")));
    assert!(client.ask("USAGE").contains("LOCK name"));
    for line in by_hand.lines().filter_map(|line| line.strip_prefix("  ")) {
        let reply = client.ask(line);
        assert!(!reply.starts_with('-') && reply != "nil", "{line}: {reply}");
    }
}
