/// The result of a call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of CPG (`cs_error_t` in `corosync/corotypes.h`), each with a remedy.
///
/// The text of each error says what to do. For programs, [`Error::is_retryable`] and
/// [`Error::is_fatal`] classify them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `CS_ERR_LIBRARY`: the transport has died or cannot be reached (on Corosync, the daemon does
    /// not run). The connection is dead: drop it, open a new one, and join as a new member.
    #[error("the transport has died or cannot be reached: connect again and join as a new member")]
    Library,
    /// `CS_ERR_VERSION`: the library and the daemon, or the processes of an embedded ring, have
    /// incompatible versions.
    #[error("the transport has an incompatible version: install matching versions")]
    Version,
    /// `CS_ERR_INIT`: the transport could not be initialized.
    #[error("the transport could not be initialized: see its log")]
    Init,
    /// `CS_ERR_TIMEOUT`: the transport did not answer in time.
    #[error("the transport did not answer in time: try again later")]
    Timeout,
    /// `CS_ERR_TRY_AGAIN`: a queue is full or the ring is forming. The request was not accepted;
    /// repeat it after 1 to 10 ms, before any later request.
    #[error("the transport is busy: try again in a few milliseconds, in the same order")]
    TryAgain,
    /// `CS_ERR_INVALID_PARAM`: an argument is out of its range.
    #[error("an argument is not valid: correct the call")]
    InvalidParameter,
    /// `CS_ERR_NO_MEMORY`: the transport is out of memory.
    #[error("out of memory: free memory and try again")]
    NoMemory,
    /// `CS_ERR_BAD_HANDLE`: the connection was closed, or has left its group. A connection serves
    /// one membership only.
    #[error("this connection cannot be used any more: open a new one")]
    BadHandle,
    /// `CS_ERR_BUSY`: another call on this connection is in progress.
    #[error("another call on this connection is in progress: wait until it returns")]
    Busy,
    /// `CS_ERR_ACCESS`: no permission. On Corosync, add the user to a file in
    /// `/etc/corosync/uidgid.d`. On the embedded transport, start all processes of a ring as the
    /// same user.
    #[error(
        "no permission to use the transport: allow this user in /etc/corosync/uidgid.d, \
         or for the embedded transport start all processes of the ring as the same user"
    )]
    Access,
    /// `CS_ERR_NOT_EXIST`: the connection is not a member of a group.
    #[error("this connection is not a member of a group: join first")]
    NotExist,
    /// `CS_ERR_NAME_TOO_LONG`: see [`GroupName`](crate::GroupName).
    #[error("the group name is too long: the maximum is 120 bytes")]
    NameTooLong,
    /// `CS_ERR_EXIST`: this connection is already a member of a group, or this process is already a
    /// member of this group through another connection.
    #[error(
        "already a member: a connection joins at most one group, and a process joins a group at most once"
    )]
    Exist,
    /// `CS_ERR_NO_SPACE`: the transport has no space left.
    #[error("no space left: free space and try again")]
    NoSpace,
    /// `CS_ERR_INTERRUPT`: the configuration changed while a fragmented message was being sent. The
    /// message was not delivered to any member; send it again as a whole.
    #[error("the configuration changed while sending: send the whole message again")]
    Interrupt,
    /// `CS_ERR_NAME_NOT_FOUND`: the name does not exist.
    #[error("no such name: check the spelling")]
    NameNotFound,
    /// `CS_ERR_NO_RESOURCES`: too many connections or file descriptors.
    #[error("the transport is out of resources: close connections or raise its limits")]
    NoResources,
    /// `CS_ERR_NOT_SUPPORTED`: the transport does not offer this operation or guarantee.
    #[error("not supported by the transport: request agreed or fifo order")]
    NotSupported,
    /// `CS_ERR_BAD_OPERATION`: the operation is not allowed in this state.
    #[error("this operation is not allowed in this state: check the order of calls")]
    BadOperation,
    /// `CS_ERR_FAILED_OPERATION`: the operation failed in the transport.
    #[error("the operation failed in the transport: see its log")]
    FailedOperation,
    /// `CS_ERR_MESSAGE_ERROR`: the message was damaged.
    #[error("the message was damaged: send it again")]
    MessageError,
    /// `CS_ERR_QUEUE_FULL`: a queue is full.
    #[error("a queue is full: try again in a few milliseconds")]
    QueueFull,
    /// `CS_ERR_QUEUE_NOT_AVAILABLE`: a queue is not available.
    #[error("a queue is not available: try again in a few milliseconds")]
    QueueNotAvailable,
    /// `CS_ERR_BAD_FLAGS`: a flag is not valid.
    #[error("a flag is not valid: correct the call")]
    BadFlags,
    /// `CS_ERR_TOO_BIG`: the message is larger than
    /// [`Connection::max_atomic_message_size`](crate::Connection::max_atomic_message_size).
    #[error("the message is too big: send at most the maximum atomic message size")]
    TooBig,
    /// `CS_ERR_NO_SECTIONS`: the iteration has reached its end.
    #[error("the iteration has reached its end")]
    NoSections,
    /// `CS_ERR_CONTEXT_NOT_FOUND`: the connection has no context.
    #[error("the connection has no context: set one first")]
    ContextNotFound,
    /// `CS_ERR_TOO_MANY_GROUPS`: the maximum number of groups, or of members of a group, is
    /// reached.
    #[error("too many groups or members: leave some first")]
    TooManyGroups,
    /// `CS_ERR_SECURITY`: keys differ, or a check of credentials failed. On the embedded transport:
    /// the process at the other end, a file of the ring or its directory belongs to another user.
    #[error(
        "rejected for security: check keys and credentials; on the embedded transport the socket, \
         its directory and the other processes must belong to this user"
    )]
    Security,
    /// An error code that this version of the crate does not know.
    #[error("the transport returned the unknown error {0}: see its documentation")]
    Unknown(i32),
}

impl Error {
    /// Returns true if the same call may succeed a little later without any change.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::TryAgain
                | Self::Timeout
                | Self::Interrupt
                | Self::QueueFull
                | Self::QueueNotAvailable
                | Self::Busy
        )
    }

    /// Returns true if the connection is dead: drop it and open a new one.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::Library | Self::BadHandle)
    }

    /// Returns the number of the error in `corotypes.h`.
    pub fn code(self) -> i32 {
        match self {
            Self::Library => 2,
            Self::Version => 3,
            Self::Init => 4,
            Self::Timeout => 5,
            Self::TryAgain => 6,
            Self::InvalidParameter => 7,
            Self::NoMemory => 8,
            Self::BadHandle => 9,
            Self::Busy => 10,
            Self::Access => 11,
            Self::NotExist => 12,
            Self::NameTooLong => 13,
            Self::Exist => 14,
            Self::NoSpace => 15,
            Self::Interrupt => 16,
            Self::NameNotFound => 17,
            Self::NoResources => 18,
            Self::NotSupported => 19,
            Self::BadOperation => 20,
            Self::FailedOperation => 21,
            Self::MessageError => 22,
            Self::QueueFull => 23,
            Self::QueueNotAvailable => 24,
            Self::BadFlags => 25,
            Self::TooBig => 26,
            Self::NoSections => 27,
            Self::ContextNotFound => 28,
            Self::TooManyGroups => 30,
            Self::Security => 100,
            Self::Unknown(code) => code,
        }
    }

    /// Returns the error with this number in `corotypes.h`; `None` for 1, which is `CS_OK`.
    pub fn from_code(code: i32) -> Option<Self> {
        const KNOWN: [Error; 29] = [
            Error::Library,
            Error::Version,
            Error::Init,
            Error::Timeout,
            Error::TryAgain,
            Error::InvalidParameter,
            Error::NoMemory,
            Error::BadHandle,
            Error::Busy,
            Error::Access,
            Error::NotExist,
            Error::NameTooLong,
            Error::Exist,
            Error::NoSpace,
            Error::Interrupt,
            Error::NameNotFound,
            Error::NoResources,
            Error::NotSupported,
            Error::BadOperation,
            Error::FailedOperation,
            Error::MessageError,
            Error::QueueFull,
            Error::QueueNotAvailable,
            Error::BadFlags,
            Error::TooBig,
            Error::NoSections,
            Error::ContextNotFound,
            Error::TooManyGroups,
            Error::Security,
        ];
        if code == 1 {
            return None;
        }
        Some(KNOWN.into_iter().find(|error| error.code() == code).unwrap_or(Self::Unknown(code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_maps_to_one_error_and_back() {
        assert_eq!(Error::from_code(1), None);
        for code in (2..=28).chain([30, 100, 29, 77]) {
            assert_eq!(Error::from_code(code).map(Error::code), Some(code));
        }
        assert_eq!(Error::from_code(29), Some(Error::Unknown(29)));
    }
}
