use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::output;

/// Programs that the rig runs, and their Debian packages.
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

/// Tries all operations that a cluster needs, in temporary namespaces.
const REHEARSAL: &str = "
    set -e
    mount -t tmpfs tmpfs /dev/shm
    ip link add bridge0 type bridge
    ip link add port0 type veth peer name port1
    nft add table inet rehearsal
";

/// Checks that clusters can run on this machine.
///
/// # Errors
///
/// The reason, for people: not root, a missing program, or no namespaces.
pub fn available() -> Result<(), String> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    FOUND.get_or_init(look).clone()
}

/// Returns true if clusters can run here. Otherwise prints the reason to the standard error, and
/// the test should return.
///
/// # Panics
///
/// If clusters cannot run here and the environment has `CI=true`: in CI no test may be skipped
/// silently.
pub fn usable() -> bool {
    let Err(reason) = available() else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no cluster can run here: {reason}");
    // Not by a macro, because the test harness hides the output of macros in tests that pass.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no cluster can run here: {reason}");
    false
}

fn look() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("clusters need the namespaces of Linux".into());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("clusters need root".into());
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
