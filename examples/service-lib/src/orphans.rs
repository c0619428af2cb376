//! Reaps orphaned processes, as the first process (pid 1) of a container must.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Children that this process has started itself, and waits for elsewhere.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Records a child that this process has just started. Must be called before any other task runs,
/// or the child could be reaped here and its exit status lost.
pub(crate) fn is_own(child: Option<u32>) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).extend(child);
}

/// Starts a task that reaps orphaned processes if this is the first process of a container. Orphans
/// become its children, and would stay as zombies otherwise. Must be called within a
/// single-threaded Tokio runtime.
///
/// # Errors
///
/// Returns the operating system's error.
pub fn reap_orphans() -> io::Result<()> {
    if !getpid().is_init() {
        return Ok(());
    }
    let mut children = signal(SignalKind::child())?;
    tokio::spawn(async move {
        loop {
            reap();
            if children.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(())
}

fn reap() {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.retain(|pid| is_child(*pid, |_| true));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| !own.contains(pid) && is_child(*pid, |state| state == "Z")) {
        let Some(pid) = Pid::from_raw(pid.cast_signed()) else { continue };
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Returns true if `pid` is a child of this process and its state satisfies `state_is`.
fn is_child(pid: u32, state_is: impl Fn(&str) -> bool) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let mut fields = fields.split(' ');
    let (state, parent) = (fields.next(), fields.next());
    let this = getpid().as_raw_pid().to_string();
    state.is_some_and(state_is) && parent == Some(&this)
}
