use std::io;

use rustix::process::Signal;

use crate::Signals;

/// Waits for the signals that ask the program to stop: SIGINT (Ctrl-C) and SIGTERM.
#[derive(Debug)]
pub struct Stop(Signals);

impl Stop {
    /// Starts to handle the signals, so that they do not end the process from now on. SIGINT stays
    /// ignored in a program that was started to ignore it, as shell scripts do for background jobs.
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn listen() -> io::Result<Self> {
        Signals::listen_to_stop().map(Self)
    }

    /// Waits for one of the signals.
    pub async fn asked(&mut self) {
        self.signal().await;
    }

    /// Waits for one of the signals and returns it. Cancel safe.
    pub async fn signal(&mut self) -> Signal {
        self.0.next().await
    }

    /// Ends the process with exit status 130 at the next signal, for users who do not want to wait
    /// for an orderly shutdown.
    pub fn insist(mut self) {
        tokio::spawn(async move {
            self.asked().await;
            std::process::exit(130);
        });
    }
}
