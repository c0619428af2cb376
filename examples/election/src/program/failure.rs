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
    Replica(#[from] crate::ReplicaStopped),
    #[error("{0}")]
    System(io::Error),
    #[error(
        "no member could answer: {0}; is `election run` running there, with a majority of its voters? Name \
         other members with --at"
    )]
    NoMember(String),
    #[error("the member rejected the request: {0}")]
    Refused(String),
    #[error(transparent)]
    Operator(#[from] service_lib::operator::OperatorError),
    #[error("cannot run {command}: {why}; check the path and its permissions")]
    Command { command: String, why: io::Error },
    #[error("the guard process of the command was killed, so the command was stopped")]
    GuardKilled,
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NoAnswer(whys) => Self::NoMember(whys),
            Unanswered::Refused(why) => Self::Refused(why),
        }
    }
}

impl Failure {
    /// Returns the exit status, as in sysexits.h.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::NoMember(_) | Self::Refused(_) | Self::Command { .. } => 69,
            Self::System(_) | Self::GuardKilled => 71,
            Self::Operator(failure) => failure.exit_code(),
            _ => 1,
        }
    }
}
