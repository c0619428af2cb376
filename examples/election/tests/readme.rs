//! The commands of the README, as they stand there, but for the folder.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long things may take on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// A shell that finds the program under test.
fn shell(script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_election"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    command.env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
    command
}

/// Processes that are killed in the end.
struct Members(Vec<Child>);

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.0 {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let here = format!("{}/", directory.path().display());
    let readme = include_str!("../README.md").replace("/tmp/", &here);
    let blocks: Vec<&str> = readme.split("```\n").skip(1).step_by(2).collect();
    let [build, members, operator] = blocks[..] else { panic!("{blocks:?}") };
    assert!(build.starts_with("cargo build --release -p election"));
    let (run, calls) = members.split_once("\nrun 1\n").expect("the first call");
    assert_eq!(calls, "run 2\nrun 3\n");
    // The shell has to become the program, to be killed with it.
    let run = run.replace("{ election", "{ exec election");
    let start = |id: u32| shell(&format!("{run}\nrun {id}")).spawn().unwrap();
    let _members = Members([1, 2, 3].map(start).into());
    let deadline = Instant::now() + BOUND;
    loop {
        let output = shell(operator).stdout(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let leads = said.contains("it runs the command") && said.contains("stands: 3, ");
        if leads && said.contains("REPLICA") && output.status.success() {
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
