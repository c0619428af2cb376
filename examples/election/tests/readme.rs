//! Runs the commands of the README unchanged, except for the directory.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::process::{Command, Stdio};

use service_lib::testing::{Process, until};

fn shell(script: &str) -> Command {
    service_lib::testing::shell(env!("CARGO_BIN_EXE_election"), script)
}

#[test]
fn the_commands_of_the_readme_work() {
    let directory = tempfile::tempdir().unwrap();
    let here = format!("{}/", directory.path().display());
    let readme = include_str!("../README.md").replace("$XDG_RUNTIME_DIR/", &here);
    let blocks: Vec<&str> = readme.split("```\n").skip(1).step_by(2).collect();
    let [build, members, operator] = blocks[..] else { panic!("{blocks:?}") };
    assert!(build.starts_with("cargo build --release -p election"));
    let (run, calls) = members.split_once("\nrun 1\n").expect("the first call");
    assert_eq!(calls, "run 2\nrun 3\n");
    // `exec` makes the shell become the program, so that killing it kills the program.
    let run = run.replace("{ election", "{ exec election");
    let _members = [1, 2, 3].map(|id: u32| Process::by(shell(&format!("{run}\nrun {id}"))));
    until("a leader", || {
        let output = shell(operator).stdout(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let leads = said.contains("it runs the command") && said.contains("candidate: 3, ");
        (leads && said.contains("REPLICA") && output.status.success()).then_some(())
    });
}
