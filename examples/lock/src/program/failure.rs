use std::io;

use service_lib::arguments::UsageError;
use service_lib::{ListenError, Unanswered};

/// An error that ends the program; its message says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Arguments(#[from] UsageError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("{0}")]
    System(io::Error),
    #[error(
        "no server could answer: {0}; is `lock serve` running there, with a majority of its voters? Name \
         other servers with --at"
    )]
    NoServer(String),
    #[error("the server rejected the request: {0}")]
    Refused(String),
    #[error(transparent)]
    Operator(#[from] service_lib::operator::OperatorError),
    #[error("cannot run {command}: {why}; check the path and its permissions")]
    Command { command: String, why: io::Error },
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NoAnswer(whys) => Self::NoServer(whys),
            Unanswered::Refused(why) => Self::Refused(why),
        }
    }
}

impl Failure {
    /// Returns the exit status, as in flock(1) and sysexits.h.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::NoServer(_) | Self::Refused(_) | Self::Command { .. } => 69,
            Self::System(_) => 71,
            Self::Operator(failure) => failure.exit_code(),
            _ => 1,
        }
    }
}
