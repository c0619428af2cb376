use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::output;

/// What the rig runs, and the Debian package it is in.
const PROGRAMS: [(&str, &str); 13] = [
    ("corosync", "corosync"),
    ("corosync-keygen", "corosync"),
    ("corosync-quorumtool", "corosync"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("env", "coreutils"),
    ("sleep", "coreutils"),
    ("timeout", "coreutils"),
    ("grep", "grep"),
    ("sh", "dash"),
];

/// Makes what a cluster needs, in namespaces that end with it.
const REHEARSAL: &str = "
    set -e
    mount -t tmpfs tmpfs /dev/shm
    ip link add bridge0 type bridge
    ip link add port0 type veth peer name port1
    nft add table inet rehearsal
";

/// Whether clusters can run on this machine.
///
/// # Errors
///
/// The reason, for people: not root, a program missing, no namespaces.
pub fn available() -> Result<(), String> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    FOUND.get_or_init(look).clone()
}

/// Whether a test that needs a cluster should go on. If not it has been told why on standard
/// error, and the test returns.
///
/// # Panics
///
/// If clusters cannot run here and the environment has `CI=true`: there nothing may be left
/// out silently.
pub fn usable() -> bool {
    let Err(reason) = available() else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no cluster can run here: {reason}");
    // Not by a macro: the test harness keeps what those print of tests that pass.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no cluster can run here: {reason}");
    false
}

fn look() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("it takes the namespaces of Linux".into());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("it takes root".into());
    }
    for (program, package) in PROGRAMS {
        if !on_path(program) {
            return Err(format!("{program} is missing: apt-get install {package}"));
        }
    }
    let mut rehearsal = Command::new("unshare");
    rehearsal.args(["--net", "--mount", "sh", "-c", REHEARSAL]);
    output::of(&mut rehearsal, "").map(drop).map_err(|error| error.to_string())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
