use std::fs;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::{Signal, getpid};
use tokio::signal::unix::{self, SignalKind};

/// Signals that are passed on to a command.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Signals by which a terminal stops the processes of a group.
const STOPPING: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// The signals that are passed on to a command.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// None is passed on.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// From now on these signals do not end this process. Those that this process was started to
    /// ignore, as by nohup(1), stay ignored, here and in the command. To be called in a runtime.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        let ignored = Ignored::by_this_process();
        Self::of(PASSED_ON.into_iter().filter(|signal| !ignored.has(*signal)))
    }

    /// The same if this is the first process of a container, which no signal ends by itself;
    /// otherwise none.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen_if_init() -> io::Result<Self> {
        if getpid().is_init() { Self::listen() } else { Ok(Self::none()) }
    }

    /// Those that ask a program to stop.
    pub(crate) fn listen_to_stop() -> io::Result<Self> {
        let ignored = Ignored::by_this_process();
        let interrupt = Some(Signal::INT).filter(|signal| !ignored.has(*signal));
        Self::of([Signal::TERM].into_iter().chain(interrupt))
    }

    /// Every signal that a service manager, a terminal or a user sends to all processes of a
    /// command: none of them ends or stops this process from now on. For a guard.
    pub(crate) fn listen_to_all() -> io::Result<Self> {
        Self::of(PASSED_ON.into_iter().chain(STOPPING))
    }

    fn of(signals: impl Iterator<Item = Signal>) -> io::Result<Self> {
        let listened = signals.map(|signal| {
            let kind = SignalKind::from_raw(signal.as_raw());
            Ok((signal, unix::signal(kind)?))
        });
        listened.collect::<io::Result<_>>().map(Self)
    }

    /// The next of them. May be dropped and called again.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            let came = signals.find_map(|(signal, stream)| {
                stream.poll_recv(context).is_ready().then_some(*signal)
            });
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The signals that a process ignores, as a set of bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ignored(u64);

impl Ignored {
    /// Those of this process now: before it listens, those that it was started to ignore.
    pub(crate) fn by_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::in_status(&status)
    }

    fn in_status(status: &str) -> Self {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        Self(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default())
    }

    pub(crate) fn has(self, signal: Signal) -> bool {
        self.0 >> (signal.as_raw() - 1) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_mask_of_ignored_signals_is_understood() {
        let ignored = Ignored::in_status("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert!(ignored.has(Signal::HUP));
        assert!(ignored.has(Signal::PIPE));
        assert!(!ignored.has(Signal::INT));
        assert!(!Ignored::in_status("").has(Signal::HUP));
    }
}
