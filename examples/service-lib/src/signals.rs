use std::fs;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::{Signal, getpid};
use tokio::signal::unix::{self, SignalKind};

/// Signals that a program passes on to its command.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Signals with which a terminal suspends the processes of a group.
const STOPPING: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// A set of signals that this process handles instead of being ended by them.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Returns the empty set.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Starts to handle the signals that are passed on to a command: HUP, INT, QUIT, TERM, USR1 and
    /// USR2. They do not end this process from now on. Signals that this process was started to
    /// ignore, as by nohup(1), stay ignored, here and in the command. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn listen() -> io::Result<Self> {
        let ignored = Ignored::by_this_process();
        Self::of(PASSED_ON.into_iter().filter(|signal| !ignored.has(*signal)))
    }

    /// Does the same as [`listen`](Self::listen) if this is the first process of a container, which
    /// unhandled signals do not end. Otherwise returns the empty set.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn listen_if_init() -> io::Result<Self> {
        if getpid().is_init() { Self::listen() } else { Ok(Self::none()) }
    }

    /// Starts to handle the signals that ask a program to stop: TERM, and INT unless it is ignored.
    pub(crate) fn listen_to_stop() -> io::Result<Self> {
        let ignored = Ignored::by_this_process();
        let interrupt = Some(Signal::INT).filter(|signal| !ignored.has(*signal));
        Self::of([Signal::TERM].into_iter().chain(interrupt))
    }

    /// Starts to handle every signal that a service manager, a terminal or a user sends to all
    /// processes of a command. None of them ends or suspends this process from now on. For guards.
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

    /// Waits for the next signal of the set and returns it. Cancel safe.
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

/// The signals that a process ignores, as a bit mask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ignored(u64);

impl Ignored {
    /// Returns the signals that this process ignores now. Before the first call of
    /// [`Signals::listen`] these are the ones that it was started to ignore.
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
    fn the_kernel_mask_of_ignored_signals_is_parsed() {
        let ignored = Ignored::in_status("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert!(ignored.has(Signal::HUP));
        assert!(ignored.has(Signal::PIPE));
        assert!(!ignored.has(Signal::INT));
        assert!(!Ignored::in_status("").has(Signal::HUP));
    }
}
