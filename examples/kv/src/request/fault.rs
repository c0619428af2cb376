/// Why a request is refused before it is proposed: in the words of Redis where it has
/// them. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not a command of this server.
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand {
        /// What it was called, shortened.
        name: String,
        /// Its first arguments, quoted and shortened.
        arguments: String,
    },
    /// Not a part of this command.
    #[error("ERR unknown subcommand '{name}'. Try {command} HELP.")]
    UnknownSubcommand {
        /// The command in capitals.
        command: &'static str,
        /// What its part was called, shortened.
        name: String,
    },
    /// Too few arguments, or too many.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// Arguments that do not go together.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument is not the decimal form of a number of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The opposite of the number does not exist.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// An expiry that is not positive, or too far away.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    /// Not an option of `EXPIRE`.
    #[error("ERR Unsupported option {0}")]
    ExpireOption(String),
    /// Options of `EXPIRE` that exclude each other.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNotWithNx,
    /// Options of `EXPIRE` that exclude each other.
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtAndLt,
    /// Not a cursor.
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
    /// There is only database 0.
    #[error("ERR DB index is out of range")]
    Database,
    /// Only version 2 of the protocol is spoken.
    #[error("NOPROTO unsupported protocol version")]
    Protocol,
    /// There are no users and no passwords.
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. Are \
         you sure your configuration is correct?"
    )]
    Auth,
    /// A name that would break the list of clients.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
}

impl Fault {
    /// An unknown command, as Redis tells of it.
    pub(crate) fn unknown(arguments: &[bytes::Bytes]) -> Self {
        let shown = |bytes: &[u8], max: usize| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
        };
        let mut list = String::new();
        for argument in arguments.iter().skip(1) {
            let Some(room @ 1..) = 128_usize.checked_sub(list.len()) else { break };
            list += &format!("'{}' ", shown(argument, room));
        }
        let name = arguments.first().map(|name| shown(name, 128)).unwrap_or_default();
        Self::UnknownCommand { name, arguments: list }
    }
}
