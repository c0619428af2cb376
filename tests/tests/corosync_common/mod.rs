//! Members in the nodes of a cluster, as children of a test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses what it needs, and fails by panicking"
)]

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use cpg::Engine;
use cpg::conformance::serve;
use plainsong_tests::rig::Node;

/// How long a ring may take to form, or a message to come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Tells a child that it is one.
const CHILD: &str = "COROSYNC_TEST_CHILD";

/// This program in a node, as the test of that name.
pub(crate) fn become_test(node: &Node, test: &str) -> Command {
    let mut command = node.command(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// This program in a node, as a member that a [`Remote`](cpg::conformance::Remote) can
/// start.
pub(crate) fn child_command(node: &Node) -> Command {
    let mut command = become_test(node, "child");
    make_child(&mut command);
    command
}

/// Makes a command that becomes the test `child` one that [`be_child`] obeys.
pub(crate) fn make_child(command: &mut Command) -> &mut Command {
    command.env(CHILD, "1").stdout(Stdio::null())
}

/// What the test `child` of each program does: nothing, unless it is one.
pub(crate) fn be_child() {
    if env::var_os(CHILD).is_some() {
        serve(&Engine::Corosync);
    }
}
