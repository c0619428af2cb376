//! Authorization of operator requests: which requests they are, and which clients may send them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::process::geteuid;
use tokio::net::{TcpStream, UnixStream};

use crate::Address;

/// Text before and after the socket's path in a rejection. [`operators_of`] parses it.
const BEFORE: &str = "send it to the Unix socket ";
const AFTER: &str = ", as the user that runs the replica";

/// Unix sockets of this process's servers, by TCP port.
static SOCKETS: Mutex<BTreeMap<u16, PathBuf>> = Mutex::new(BTreeMap::new());

/// Rights of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// May send every request: connected through a Unix socket, as the user that runs the server or
    /// as root.
    Operator,
    /// May send every request that cannot harm the whole group.
    Client {
        /// The Unix socket on which the server accepts operator requests, if it has one.
        operators_at: Option<PathBuf>,
    },
}

impl Rights {
    /// Returns the error reply if the client may not send this request.
    pub fn refusal(&self, words: &[Bytes]) -> Option<String> {
        let Self::Client { operators_at } = self else { return None };
        if !is_for_operators(words) {
            return None;
        }
        let place = match operators_at {
            Some(path) => format!("{BEFORE}{}{AFTER}", path.display()),
            None => format!(
                "start the server with `--socket PATH` and send it to that Unix socket{AFTER}"
            ),
        };
        Some(format!("NOPERM only operators may send this request: {place}"))
    }

    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        let user = stream.peer_cred().map(|credentials| credentials.uid());
        match user {
            Ok(user) if user == 0 || user == geteuid().as_raw() => Self::Operator,
            _ => Self::Client { operators_at: None },
        }
    }

    pub(crate) fn of_tcp(stream: &TcpStream) -> Self {
        let port = stream.local_addr().map(|address| address.port()).unwrap_or_default();
        let sockets = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        Self::Client { operators_at: sockets.get(&port).cloned() }
    }
}

/// Records the Unix socket on which the server of a TCP port accepts operator requests.
pub(crate) fn serves_operators_at(port: u16, path: &Path) {
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner).insert(port, path.into());
}

/// Returns true if a request changes the voters, ends what other clients hold, or abandons a
/// majority.
fn is_for_operators(words: &[Bytes]) -> bool {
    let is = |at: usize, word: &str| {
        words.get(at).is_some_and(|said| said.eq_ignore_ascii_case(word.as_bytes()))
    };
    let looks = words.len() == 1 || words.len() == 2 && is(1, "SAFE");
    is(0, "MEMBERS") && !looks || is(0, "NEWCLUSTER") || is(0, "BREAK") || is(0, "RESIGN")
}

/// Returns the Unix socket to use instead, if a server on this host has rejected a request as one
/// for operators. The path comes from the server, so it must be a socket owned by this user; root
/// accepts a socket of any user.
pub(crate) fn operators_of(address: &Address, refusal: &str) -> Option<PathBuf> {
    let Address::Tcp(text) = address else { return None };
    let (host, _) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return None;
    }
    let (_, rest) = refusal.strip_prefix("NOPERM ")?.split_once(BEFORE)?;
    let path = PathBuf::from(rest.strip_suffix(AFTER)?);
    let found = std::fs::symlink_metadata(&path).ok()?;
    let user = geteuid();
    let is_own = found.uid() == user.as_raw() || user.is_root();
    (path.is_absolute() && found.file_type().is_socket() && is_own).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(request: &str) -> Vec<Bytes> {
        request.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn clients_may_not_send_requests_that_harm_the_whole_group() {
        let client = Rights::Client { operators_at: Some("/run/s".into()) };
        for request in ["members add 4", "MEMBERS REMOVE 1", "NewCluster", "BREAK a NOW", "resign"]
        {
            let refusal = client.refusal(&words(request)).unwrap();
            assert!(refusal.contains("/run/s"), "{refusal}");
            assert_eq!(Rights::Operator.refusal(&words(request)), None);
        }
        for request in ["MEMBERS", "members safe", "STATUS", "INFO", "LOCK BREAK", "GET members"] {
            assert_eq!(client.refusal(&words(request)), None, "{request}");
        }
    }

    #[test]
    fn the_command_line_switches_to_the_unix_socket_of_a_local_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let refusal = |path: &Path| {
            let client = Rights::Client { operators_at: Some(path.into()) };
            client.refusal(&words("NEWCLUSTER")).unwrap()
        };
        let follow =
            |address: &str, refusal: &str| operators_of(&address.parse().unwrap(), refusal);
        for local in ["127.0.0.1:7001", "[::1]:7001", "localhost:7001"] {
            assert_eq!(follow(local, &refusal(&path)), Some(path.clone()));
        }
        assert_eq!(follow("192.0.2.1:7001", &refusal(&path)), None, "another host");
        assert_eq!(follow("/run/other", &refusal(&path)), None);
        assert_eq!(follow("127.0.0.1:7001", "ERR no"), None);
        assert_eq!(follow("127.0.0.1:7001", &refusal(&directory.path().join("none"))), None);
        assert_eq!(follow("127.0.0.1:7001", &refusal(directory.path())), None, "not a socket");
    }
}
