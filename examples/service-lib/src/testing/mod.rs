//! Helpers for tests that run the programs as processes. They panic on failure.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;
mod terminal;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use process::Process;
pub use terminal::Terminal;

/// Maximum time to wait for any condition, chosen for busy machines.
pub const BOUND: Duration = Duration::from_secs(90);

/// Polls `look` until it returns a value. Panics with `what` after [`BOUND`].
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {BOUND:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Creates a shell command that runs a script of a README. The program under test is in its `PATH`.
pub fn shell(program: &str, script: &str) -> Command {
    let folder = Path::new(program).parent().expect("a program in a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PATH", format!("{folder}:{path}"));
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    command
}

/// Returns the process that holds the lock on a file. For the lock file of a ring this is the
/// process that serves the ring's socket.
pub fn lock_holder(path: &Path) -> Option<u32> {
    let inode = std::fs::metadata(path).ok()?.ino().to_string();
    std::fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, kind, _, _, pid, file, ..] = fields[..] else { return None };
        (kind == "FLOCK" && file.rsplit(':').next() == Some(&inode)).then(|| pid.parse().ok())?
    })
}

/// Returns the process id of the guard that a program has started.
#[track_caller]
pub fn guard_of(program: u32) -> u32 {
    until("a guard", || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
            let read =
                |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let is_child = read("stat")
                .rsplit_once(") ")
                .is_some_and(|(_, fields)| fields.split(' ').nth(1) == Some(&program.to_string()));
            is_child && read("cmdline").split('\0').nth(1) == Some("guard")
        })
    })
}

/// Returns the systemd units in `docs/operations.md`, each with the words of its `ExecStart=`.
pub fn units() -> Vec<(&'static str, Vec<&'static str>)> {
    let blocks = include_str!("../../../../docs/operations.md").split("```\n").skip(1).step_by(2);
    let units = blocks.filter_map(|unit| {
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
        Some((unit, start.split(' ').collect()))
    });
    units.collect()
}
