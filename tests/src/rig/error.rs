use std::fmt;
use std::io;
use std::time::Duration;

/// An error of the rig, or a condition that did not occur in time.
///
/// `Debug` prints the same as `Display`, so a test that returns this error ends with a readable
/// message.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No cluster can run on this machine.
    #[error("no cluster can run here: {0}")]
    Unavailable(String),
    /// The options of the cluster are invalid.
    #[error("invalid cluster: {0}")]
    Invalid(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The attempted operation.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A program that the rig ran has failed.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// The exit status.
        status: String,
        /// The output.
        said: String,
    },
    /// A condition did not occur before its deadline.
    #[error("{what}: did not happen within {within:?}; {last}")]
    Late {
        /// The awaited condition.
        what: String,
        /// The time limit.
        within: Duration,
        /// The last observed state.
        last: String,
    },
    /// A condition can no longer occur.
    #[error("{what}: {why}")]
    Never {
        /// The awaited condition.
        what: String,
        /// The reason.
        why: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Returns a function for `map_err` that adds the attempted operation to a system error.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
