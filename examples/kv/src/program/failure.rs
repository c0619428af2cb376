use std::io;

/// Why the program cannot start, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot listen on {address}: {why}; {remedy}")]
    Listen { address: String, why: io::Error, remedy: String },
    #[error(transparent)]
    Arguments(#[from] service_lib::arguments::UsageError),
    #[error(
        "--listen {0}: other hosts reach that address: ask for a password with \
         --requirepass-file or for certificates with --tls-client-ca, listen on 127.0.0.1 or \
         [::1], or add --allow-remote where the network is trusted"
    )]
    Remote(String),
    #[error("cannot read {path}: {why}; name a readable file with --requirepass-file")]
    PasswordFile { path: String, why: io::Error },
    #[error(
        "the first line of {path} is no password: it must have 1 to {max} bytes",
        max = crate::server::Password::BYTES_MAX
    )]
    Password { path: String },
    #[error(transparent)]
    Tls(#[from] crate::server::TlsError),
    #[error("--port {0} leaves no room for three ports: choose one up to 65533")]
    Port(u16),
    #[error("replica {id} cannot start: {why}")]
    Start { id: u32, why: String },
    #[error("cannot start threads to serve clients: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Socket(#[from] service_lib::ListenError),
    #[error(transparent)]
    Operator(#[from] service_lib::operator::OperatorError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

impl Failure {
    /// An operator's is in the numbers of sysexits.h.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Operator(failure) => failure.exit_code(),
            _ => 1,
        }
    }

    /// An address that cannot be listened on, and the option to choose another by.
    pub(super) fn listen(address: &impl ToString, why: io::Error, option: &str) -> Self {
        let remedy = match why.kind() {
            io::ErrorKind::AddrInUse => {
                format!("stop what listens there, or choose another port with {option}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("choose a port from 1024 on with {option}")
            }
            _ => format!("choose another address with {option}"),
        };
        Self::Listen { address: address.to_string(), why, remedy }
    }
}
