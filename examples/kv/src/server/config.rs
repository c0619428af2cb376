use std::time::Duration;

use super::{Password, Tls};
use crate::limits::{AUTHENTICATION_TIME_MAX, LISTENER_STALL_MAX};

/// Configuration of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Maximum time that a client waits for the outcome of a command. After it the client gets an
    /// error, and the command may still take effect.
    pub timeout: Duration,
    /// Password required from clients on a TCP port. Clients on a Unix socket need none: the file
    /// permissions of the socket decide who may connect.
    pub password: Option<Password>,
    /// Maximum time for a client on a TCP port to authenticate.
    pub authentication_timeout: Duration,
    /// Maximum time for a subscriber to accept a message.
    pub listener_timeout: Duration,
    /// TLS on the TCP port. Unix sockets are not encrypted.
    pub tls: Option<Tls>,
    /// Size of the store in bytes above which this server rejects commands that could make the
    /// store larger. It applies to the clients of this server only: commands accepted by other
    /// replicas are applied here as well.
    pub memory_bytes_max: Option<u64>,
}

impl ServerConfig {
    /// Returns a configuration without password, TLS or memory limit.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            password: None,
            authentication_timeout: AUTHENTICATION_TIME_MAX,
            listener_timeout: LISTENER_STALL_MAX,
            tls: None,
            memory_bytes_max: None,
        }
    }
}
