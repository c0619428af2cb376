//! Finds the processes that a command has started, even if they have moved to other process groups
//! or sessions.
//!
//! A command inherits the writing end of a pipe, and so do its children, as with the file that
//! flock(1) locks. The reading end sees the end of the pipe once all of these processes have ended.
//! Until then, `/proc` shows which processes have the pipe open for writing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::fstat;
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The reading end of the pipe.
#[derive(Debug)]
pub(crate) struct Tether {
    end: AsyncFd<OwnedFd>,
    name: String,
}

impl Tether {
    /// Creates the pipe. Returns its reading end, and the writing end for the command to inherit.
    /// Must be called within a Tokio runtime.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((Self::from_fd(reader)?, writer))
    }

    /// Wraps a reading end that another process has created.
    #[allow(deprecated, reason = "an `OwnedFd` is what the safety of its successor asks for")]
    pub(crate) fn from_fd(reader: OwnedFd) -> io::Result<Self> {
        let name = format!("pipe:[{}]", fstat(&reader)?.st_ino);
        Ok(Self { end: AsyncFd::with_interest(reader, Interest::READABLE)?, name })
    }

    /// Returns the reading end, to pass it to another process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.end.get_ref().as_fd()
    }

    /// Returns true if any process still has the writing end open.
    pub(crate) fn is_held(&self) -> bool {
        let mut discarded = [0; 512];
        loop {
            match read(self.fd(), &mut discarded) {
                Ok(0) => return false,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// Waits until no process has the writing end open any more.
    pub(crate) async fn released(&self) {
        while self.is_held() {
            match self.end.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is shutting down, so this process is about to end.
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// Sends a signal to the process group, the process, and all processes that have the writing
    /// end open. Each process receives it once.
    pub(crate) fn signal(&self, group: Option<Pid>, process: Option<Pid>, signal: Signal) {
        let is_in_group = |pid: &Pid| group.is_some() && group_of(*pid) == group;
        let mut others: BTreeSet<i32> = self.holders().into_iter().map(Pid::as_raw_pid).collect();
        others.extend(process.map(Pid::as_raw_pid));
        let others = others.into_iter().filter_map(Pid::from_raw);
        let others: Vec<Pid> = others.filter(|pid| !is_in_group(pid)).collect();
        // Errors are ignored: the process has ended.
        for pid in others {
            let _ = kill_process(pid, signal);
        }
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Returns the processes that have the writing end open, as far as `/proc` lets this process
    /// see them.
    fn holders(&self) -> Vec<Pid> {
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let processes = processes.flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            self.is_held_by(&entry.path()).then_some(pid)
        });
        processes.collect()
    }

    fn is_held_by(&self, process: &Path) -> bool {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            let is_pipe = fs::read_link(descriptor.path())
                .is_ok_and(|target| target.as_os_str() == self.name.as_str());
            is_pipe && is_for_writing(&process.join("fdinfo").join(descriptor.file_name()))
        })
    }
}

fn is_for_writing(fdinfo: &Path) -> bool {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0b11 != 0)
}

fn group_of(pid: Pid) -> Option<Pid> {
    rustix::process::getpgid(Some(pid)).ok()
}
