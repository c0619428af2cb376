/// Reason for which a request is rejected before it is proposed. Nothing has changed then. The
/// texts are Redis's own where it has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Unknown command.
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand {
        /// Its name, shortened.
        name: String,
        /// Its first arguments, quoted and shortened.
        arguments: String,
    },
    /// Unknown subcommand.
    #[error("ERR unknown subcommand '{name}'. Try {command} HELP.")]
    UnknownSubcommand {
        /// The command in capitals.
        command: &'static str,
        /// The subcommand, shortened.
        name: String,
    },
    /// Too few arguments, or too many.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// Invalid or contradictory arguments.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument is not a signed 64-bit integer in canonical decimal form.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The decrement cannot be negated.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// An expiry that is not positive, or too far away.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    /// Unknown option of `EXPIRE`.
    #[error("ERR Unsupported option {0}")]
    ExpireOption(String),
    /// `EXPIRE` with `NX` and another condition.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNotWithNx,
    /// `EXPIRE` with `GT` and `LT`.
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtAndLt,
    /// A negative offset.
    #[error("ERR offset is out of range")]
    Offset,
    /// An invalid cursor.
    #[error("ERR invalid cursor")]
    Cursor,
    /// A pattern longer than [`crate::limits::PATTERN_BYTES_MAX`].
    #[error(
        "ERR pattern exceeds maximum allowed size ({max} bytes)",
        max = crate::limits::PATTERN_BYTES_MAX
    )]
    Pattern,
    /// Arguments longer than [`crate::limits::COMMAND_BYTES_MAX`].
    #[error(
        "ERR string exceeds maximum allowed size ({max} bytes for all arguments of a command)",
        max = crate::limits::COMMAND_BYTES_MAX
    )]
    TooLong,
    /// A database other than 0.
    #[error("ERR DB index is out of range")]
    Database,
    /// A protocol version other than 2 and 3.
    #[error("NOPROTO unsupported protocol version")]
    Protocol,
    /// The version of the protocol is not a number.
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtocolNumber,
    /// Unknown option of `HELLO`, or an option without its value.
    #[error("ERR Syntax error in HELLO option '{0}'")]
    HelloOption(String),
    /// The client must authenticate first.
    #[error("NOAUTH Authentication required.")]
    NotAuthenticated,
    /// The client must authenticate first; the text for `HELLO`.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
         <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
         RESP protocol version at the same time"
    )]
    HelloNotAuthenticated,
    /// A user other than `default`, or a wrong password.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPassword,
    /// The store is as large as `--maxmemory` allows.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// `MULTI` after `MULTI`.
    #[error("ERR MULTI calls can not be nested")]
    MultiInMulti,
    /// `WATCH` after `MULTI`.
    #[error("ERR WATCH inside MULTI is not allowed")]
    WatchInMulti,
    /// `EXEC` or `DISCARD` without `MULTI`.
    #[error("ERR {0} without MULTI")]
    WithoutMulti(&'static str),
    /// A command that cannot be queued.
    #[error("ERR Command not allowed inside a transaction")]
    NotInTransaction,
    /// `EXEC` after a command that could not be queued.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    Aborted,
    /// The transaction could make the store larger, which is as large as `--maxmemory` allows.
    #[error(
        "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
         'maxmemory'."
    )]
    AbortedOutOfMemory,
    /// A subscriber of protocol version 2 sent another command.
    #[error(
        "ERR Can't execute '{0}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
         allowed in this context"
    )]
    Listening(std::borrow::Cow<'static, str>),
    /// The client has [`crate::limits::SUBSCRIPTIONS_MAX`] subscriptions already.
    #[error(
        "ERR too many subscriptions ({max} at most for a client)",
        max = crate::limits::SUBSCRIPTIONS_MAX
    )]
    TooManySubscriptions,
    /// A setting that only the command line can change.
    #[error(
        "ERR CONFIG SET failed (possibly related to argument '{0}') - can't set immutable config"
    )]
    Immutable(&'static str),
    /// Unknown setting.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    UnknownSetting(String),
    /// `AUTH` at a server without a password.
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. Are \
         you sure your configuration is correct?"
    )]
    Auth,
    /// Scripts and functions are not supported.
    #[error(
        "ERR {0} is not supported: a script cannot be a command of the log; compare and set with \
         SET key value IFEQ old or DELEX key IFEQ old, or use WATCH with MULTI and EXEC"
    )]
    Script(String),
    /// The number to add is not a number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// `COPY` of a key to itself.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// The timeout of `WAIT` is not a number.
    #[error("ERR timeout is not an integer or out of range")]
    Timeout,
    /// The timeout of `WAIT` is less than 0.
    #[error("ERR timeout is negative")]
    NegativeTimeout,
    /// A client name with characters that would break `CLIENT LIST`.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    /// Unknown option of `CLIENT SETINFO`.
    #[error("ERR Unrecognized option '{0}'")]
    ClientInfo(String),
    /// A value of `CLIENT SETINFO` with characters that would break `CLIENT LIST`.
    #[error("ERR {0} cannot contain spaces, newlines or special characters.")]
    ClientInfoValue(String),
    /// Unknown client type in `CLIENT LIST`.
    #[error("ERR Unknown client type '{0}'")]
    ClientType(String),
    /// An invalid client id.
    #[error("ERR Invalid client ID")]
    ClientId,
}

/// Commands that run or manage scripts and functions.
const SCRIPTS: &[&str] =
    &["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "function", "script"];

impl Fault {
    /// Returns the error for an unknown subcommand.
    pub(crate) fn unknown_part(command: &'static str, part: &[u8]) -> Self {
        let name = String::from_utf8_lossy(&part[..part.len().min(128)]).into_owned();
        Self::UnknownSubcommand { command, name }
    }

    /// Returns the error for an unknown command. Scripts get an error of their own.
    pub(crate) fn unknown(arguments: &[bytes::Bytes]) -> Self {
        let shown = |bytes: &[u8], max: usize| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
        };
        let is_script = |name: &bytes::Bytes| {
            SCRIPTS.iter().any(|script| name.eq_ignore_ascii_case(script.as_bytes()))
        };
        if let Some(name) = arguments.first().filter(|name| is_script(name)) {
            return Self::Script(shown(name, 128).to_ascii_uppercase());
        }
        let mut list = String::new();
        for argument in arguments.iter().skip(1) {
            let Some(room @ 1..) = 128_usize.checked_sub(list.len()) else { break };
            list += &format!("'{}' ", shown(argument, room));
        }
        let name = arguments.first().map(|name| shown(name, 128)).unwrap_or_default();
        Self::UnknownCommand { name, arguments: list }
    }
}
