/// The result of a call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of CPG (`cs_error_t` of `corotypes.h`), each with what to do about it.
///
/// The message of each names the remedy; [`Error::is_retryable`] and
/// [`Error::is_fatal`] sort them for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `CS_ERR_LIBRARY`: the transport is gone (for Corosync: the daemon does not run or
    /// died). The connection is dead: drop it, connect again, join as a new member.
    #[error("the transport is gone or cannot be reached: connect again and join as a new member")]
    Library,
    /// `CS_ERR_VERSION`: the library and the daemon do not fit together.
    #[error("the transport speaks another version: install matching versions")]
    Version,
    /// `CS_ERR_INIT`: the transport could not be set up.
    #[error("the transport could not be initialised: see its log")]
    Init,
    /// `CS_ERR_TIMEOUT`: no answer in time.
    #[error("the transport did not answer in time: try again later")]
    Timeout,
    /// `CS_ERR_TRY_AGAIN`: queues are full or the ring is being formed. Nothing was
    /// queued; try again after 1 to 10 ms, in the same order.
    #[error("the transport is busy: try again in a few milliseconds, in the same order")]
    TryAgain,
    /// `CS_ERR_INVALID_PARAM`: an argument is out of its range.
    #[error("an argument is not valid: correct the call")]
    InvalidParameter,
    /// `CS_ERR_NO_MEMORY`.
    #[error("out of memory: free some and try again")]
    NoMemory,
    /// `CS_ERR_BAD_HANDLE`: the connection was closed, or has left its group; it serves
    /// one membership only.
    #[error("this connection is used up: open a new one")]
    BadHandle,
    /// `CS_ERR_BUSY`: another call on this connection is under way.
    #[error("another call on this connection is under way: wait for it")]
    Busy,
    /// `CS_ERR_ACCESS`: no permission. For Corosync: add the user to
    /// `/etc/corosync/uidgid.d`. For the embedded transport: start all processes of a ring as the
    /// same user.
    #[error(
        "no permission to use the transport: allow this user in /etc/corosync/uidgid.d, \
         or for the embedded transport start all processes of the ring as the same user"
    )]
    Access,
    /// `CS_ERR_NOT_EXIST`: not a member of a group.
    #[error("this connection is not a member of a group: join first")]
    NotExist,
    /// `CS_ERR_NAME_TOO_LONG`: see [`GroupName`](crate::GroupName).
    #[error("the group name is too long: 120 bytes at most")]
    NameTooLong,
    /// `CS_ERR_EXIST`: this process is a member of the group already, or this connection
    /// of any group.
    #[error("already a member: one membership a connection, one connection a process and group")]
    Exist,
    /// `CS_ERR_NO_SPACE`.
    #[error("no space left: free some and try again")]
    NoSpace,
    /// `CS_ERR_INTERRUPT`: the configuration changed while a large message was being
    /// sent; it was delivered nowhere. Send it again whole.
    #[error("the configuration changed while sending: send the whole message again")]
    Interrupt,
    /// `CS_ERR_NAME_NOT_FOUND`.
    #[error("no such name: check it")]
    NameNotFound,
    /// `CS_ERR_NO_RESOURCES`: too many connections or descriptors.
    #[error("the transport is out of resources: close connections or raise its limits")]
    NoResources,
    /// `CS_ERR_NOT_SUPPORTED`: this transport, or any transport, does not do that.
    #[error("not supported by the transport: ask for what it gives (agreed or fifo order)")]
    NotSupported,
    /// `CS_ERR_BAD_OPERATION`.
    #[error("this operation is not allowed now: check the order of calls")]
    BadOperation,
    /// `CS_ERR_FAILED_OPERATION`.
    #[error("the operation failed in the transport: see its log")]
    FailedOperation,
    /// `CS_ERR_MESSAGE_ERROR`.
    #[error("the message was damaged: send it again")]
    MessageError,
    /// `CS_ERR_QUEUE_FULL`.
    #[error("a queue is full: try again in a few milliseconds")]
    QueueFull,
    /// `CS_ERR_QUEUE_NOT_AVAILABLE`.
    #[error("a queue is not available: try again in a few milliseconds")]
    QueueNotAvailable,
    /// `CS_ERR_BAD_FLAGS`.
    #[error("flags are not valid: correct the call")]
    BadFlags,
    /// `CS_ERR_TOO_BIG`: larger than
    /// [`Connection::max_atomic_message_size`](crate::Connection::max_atomic_message_size).
    #[error("the message is too big: send at most the maximum atomic message size")]
    TooBig,
    /// `CS_ERR_NO_SECTIONS`: nothing more to iterate over.
    #[error("nothing more to iterate over")]
    NoSections,
    /// `CS_ERR_CONTEXT_NOT_FOUND`.
    #[error("the connection has no context: set one first")]
    ContextNotFound,
    /// `CS_ERR_TOO_MANY_GROUPS`: the transport's limit of groups or of members of a group.
    #[error("too many groups or members: leave some first")]
    TooManyGroups,
    /// `CS_ERR_SECURITY`: keys differ, or a check of credentials failed. For the embedded
    /// transport: the process at the other end, a file of the ring or its directory belongs to
    /// another user.
    #[error(
        "refused for security: check keys and credentials, and for the embedded transport that the \
         socket, its directory and the other processes belong to this user"
    )]
    Security,
    /// A code that this version of the crate does not know.
    #[error("the transport answered with the unknown error {0}: see its documentation")]
    Unknown(i32),
}

impl Error {
    /// Whether the same call may succeed in a little while with nothing changed.
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

    /// Whether the connection is dead: drop it and open a new one.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::Library | Self::BadHandle)
    }

    /// The number of the error in `corotypes.h`.
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

    /// The error of a number of `corotypes.h`; `None` for 1, `CS_OK`.
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
    fn codes_and_errors_are_the_same_thing() {
        assert_eq!(Error::from_code(1), None);
        for code in (2..=28).chain([30, 100, 29, 77]) {
            assert_eq!(Error::from_code(code).map(Error::code), Some(code));
        }
        assert_eq!(Error::from_code(29), Some(Error::Unknown(29)));
    }
}
