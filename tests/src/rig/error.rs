use std::fmt;
use std::io;
use std::time::Duration;

/// Why the rig could not do something, or what did not happen in time.
///
/// A test that returns it ends with its plain text: `Debug` is the same as `Display`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No cluster can run on this machine.
    #[error("no cluster can run here: {0}")]
    Unavailable(String),
    /// The builder was asked for a cluster that cannot be.
    #[error("there is no such cluster: {0}")]
    Invalid(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that the rig ran did not succeed.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        said: String,
    },
    /// What a test waited for did not happen before its deadline.
    #[error("{what}: not within {within:?}; {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// What was there instead.
        last: String,
    },
    /// What a test waited for can no longer happen.
    #[error("{what}: {why}")]
    Never {
        /// What was waited for.
        what: String,
        /// What happened instead.
        why: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// For `map_err` on what the system refused.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
