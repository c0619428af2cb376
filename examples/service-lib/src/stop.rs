use std::io;

use rustix::process::Signal;

use crate::Signals;

/// The signals that ask the program to stop: Ctrl-C and SIGTERM.
#[derive(Debug)]
pub struct Stop(Signals);

impl Stop {
    /// From now on the signals do not end the process by themselves. Ctrl-C stays ignored in a
    /// program that was started to ignore it, as a shell's script does in the background. To be
    /// called in a runtime.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        Signals::listen_to_stop().map(Self)
    }

    /// Waits for one of them.
    pub async fn asked(&mut self) {
        self.signal().await;
    }

    /// Waits for one of them, and returns which it was. May be dropped and called again.
    pub async fn signal(&mut self) -> Signal {
        self.0.next().await
    }

    /// Ends the process at the next of them, for one who does not want to wait for an
    /// orderly end.
    pub fn insist(mut self) {
        tokio::spawn(async move {
            self.asked().await;
            std::process::exit(130);
        });
    }
}
