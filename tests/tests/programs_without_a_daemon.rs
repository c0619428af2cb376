//! Errors of the programs if Corosync's daemon is not running or rejects them: one line with the
//! remedy.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use plainsong_tests::rig::{self, Cluster, Node, Program};

/// Timeout that allows for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user id that no file in `uidgid.d` names.
const UNPRIVILEGED: u32 = 4321;

const PROGRAMS: [(&str, &[&str]); 3] = [
    (env!("CARGO_BIN_EXE_kv_under_test"), &["serve", "--listen", "127.0.0.1:0"]),
    (env!("CARGO_BIN_EXE_lock_under_test"), &["serve", "--listen", "127.0.0.1:0"]),
    (env!("CARGO_BIN_EXE_election_under_test"), &["run", "work"]),
];

/// Runs a program in a node and checks that it ends with this error.
fn ends_with(
    node: &Node,
    uid: u32,
    program: &str,
    arguments: &[&str],
    error: &str,
) -> rig::Result<()> {
    // A place from which every user may run it.
    let copy = node.directory().join("program");
    fs::copy(program, &copy).expect("a copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut command = node.command_as(uid, uid, &copy);
    command.args(arguments).args(["--id", "1", "--voters", "1", "--engine", "corosync"]);
    if arguments.contains(&"run") {
        command.args(["--", "true"]);
    }
    let program: Program = node.spawn("program", command)?;
    assert_eq!(program.wait_exit(PATIENCE)?.code(), Some(1));
    program.wait_for_line(error, PATIENCE)?;
    assert_eq!(program.lines().len(), 1, "{:?}", program.lines());
    Ok(())
}

#[test]
fn errors_about_a_missing_daemon_or_permission_name_the_remedy() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(1).start()?;
    cluster.wait_for_ring(&[1], PATIENCE)?;
    let node = cluster.node(1);
    for (program, arguments) in PROGRAMS {
        ends_with(
            node,
            UNPRIVILEGED,
            program,
            arguments,
            "allow this user in /etc/corosync/uidgid.d",
        )?;
    }
    node.kill_daemon()?;
    for (program, arguments) in PROGRAMS {
        ends_with(node, 0, program, arguments, "start it, e.g. by `systemctl start corosync`")?;
    }
    Ok(())
}
