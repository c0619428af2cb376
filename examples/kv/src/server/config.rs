use std::time::Duration;

use super::{Password, Tls};
use crate::limits::{AUTHENTICATION_TIME_MAX, LISTENER_STALL_MAX};

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How long a client waits for the outcome of a command before it is told that there
    /// is none.
    pub timeout: Duration,
    /// What clients at a port have to say first. Those at a Unix socket need not: who may open
    /// it, its file says.
    pub password: Option<Password>,
    /// How long a client at a port may take to say it.
    pub authentication_timeout: Duration,
    /// How long a client that listens to changes may take none.
    pub listener_timeout: Duration,
    /// The port is encrypted. A Unix socket is not.
    pub tls: Option<Tls>,
    /// Commands that could make the store larger are refused while it holds more than this. It
    /// is this server's own: what others of the group let in is let in here, too.
    pub memory_bytes_max: Option<u64>,
}

impl ServerConfig {
    /// Without password, encryption or limit.
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
