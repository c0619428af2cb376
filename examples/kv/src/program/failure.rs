use std::io;

/// A failure of the program, with its remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot listen on {address}: {why}; {remedy}")]
    Listen { address: String, why: io::Error, remedy: String },
    #[error(transparent)]
    Arguments(#[from] service_lib::arguments::UsageError),
    #[error(
        "--listen {0}: other hosts can reach this address; require a password with \
         --requirepass-file or certificates with --tls-client-ca, listen on 127.0.0.1 or [::1], or \
         add --allow-remote if the network is trusted"
    )]
    Remote(String),
    #[error("cannot read {path}: {why}; name a readable file with --requirepass-file")]
    PasswordFile { path: String, why: io::Error },
    #[error(
        "the first line of {path} cannot be used as the password: it must have 1 to {max} bytes",
        max = crate::server::Password::BYTES_MAX
    )]
    Password { path: String },
    #[error(transparent)]
    Tls(#[from] crate::server::TlsError),
    #[error("--port {0} leaves no room for three ports; choose a port up to 65533")]
    Port(u16),
    #[error("replica {id} cannot start: {why}")]
    Start { id: u32, why: String },
    #[error("cannot start the threads that serve clients: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Socket(#[from] service_lib::ListenError),
    #[error(transparent)]
    Operator(#[from] service_lib::operator::OperatorError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

impl Failure {
    /// Returns the exit status. Operator subcommands use the codes of sysexits.h.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Operator(failure) => failure.exit_code(),
            _ => 1,
        }
    }

    /// Returns the failure for an address that cannot be listened on. `option` is the one that
    /// chooses another address.
    pub(super) fn listen(address: &impl ToString, why: io::Error, option: &str) -> Self {
        let remedy = match why.kind() {
            io::ErrorKind::AddrInUse => {
                format!("stop the process that listens there, or choose another port with {option}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("choose a port of at least 1024 with {option}")
            }
            _ => format!("choose another address with {option}"),
        };
        Self::Listen { address: address.to_string(), why, remedy }
    }
}
