use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use rustix::io::Errno;
use tokio::net::TcpListener;

const FORMS: &str = "give HOST:PORT, such as 127.0.0.1:7001, localhost:7001 or [::1]:7001, or *:7001 \
                     for all addresses of this host";

/// An address to listen on: a port of one address, of all addresses of a host name, or of all
/// addresses of this host (`*:PORT` or `:PORT`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    text: String,
    hosts: Hosts,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// Never empty; IPv4 addresses come first.
    These(Vec<IpAddr>),
}

impl FromStr for ListenAddress {
    type Err = String;

    /// Parses the text, and resolves a host name. Blocks while it does.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or(FORMS)?;
        let port = port.parse().map_err(|_| FORMS)?;
        let hosts = match host {
            "" | "*" => Hosts::All,
            _ => Hosts::These(addresses(text, host, port)?),
        };
        Ok(Self { text: text.into(), hosts, port })
    }
}

fn addresses(text: &str, host: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![address.ip()]);
    }
    let found = (host, port).to_socket_addrs();
    let found =
        found.map_err(|why| format!("cannot resolve the host name {host}: {why}; {FORMS}"))?;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    found.sort_by_key(|address| (address.is_ipv6(), *address));
    found.dedup();
    if found.is_empty() {
        Err(format!("the host name {host} has no address; {FORMS}"))
    } else {
        Ok(found)
    }
}

impl ListenAddress {
    /// Returns true if only this host can reach the address.
    pub fn is_loopback(&self) -> bool {
        match &self.hosts {
            Hosts::All => false,
            Hosts::These(hosts) => hosts.iter().all(IpAddr::is_loopback),
        }
    }

    /// Listens on each of the addresses. Port 0 picks a free port, the same for all addresses.
    /// Returns at least one listener.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. Addresses of a host name that this host does not have
    /// are skipped, unless it has none of them.
    pub async fn bind(&self) -> io::Result<Vec<TcpListener>> {
        let hosts = match &self.hosts {
            Hosts::These(hosts) => hosts,
            Hosts::All => {
                // An IPv6 socket accepts IPv4 clients, too. Hosts without IPv6 fall back to IPv4.
                return match TcpListener::bind((Ipv6Addr::UNSPECIFIED, self.port)).await {
                    Err(why) if is_missing(&why) => {
                        Ok(vec![TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).await?])
                    }
                    bound => Ok(vec![bound?]),
                };
            }
        };
        let (mut bound, mut port, mut missing) = (Vec::new(), self.port, None);
        for host in hosts {
            match TcpListener::bind((*host, port)).await {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    bound.push(listener);
                }
                Err(why) if is_missing(&why) => missing = Some(why),
                Err(why) => return Err(why),
            }
        }
        match missing {
            Some(why) if bound.is_empty() => Err(why),
            _ => Ok(bound),
        }
    }
}

/// Returns true if this host does not have the address, or no addresses of its family.
fn is_missing(why: &io::Error) -> bool {
    let unsupported = Some(Errno::AFNOSUPPORT.raw_os_error());
    why.kind() == io::ErrorKind::AddrNotAvailable || why.raw_os_error() == unsupported
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn read(text: &str) -> ListenAddress {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    /// Binds to `text` and returns the addresses, having connected to each.
    fn bound(text: &str) -> Vec<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let listeners = runtime.block_on(read(text).bind()).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        for address in &addresses {
            TcpStream::connect(address).unwrap();
        }
        if addresses[0].ip().is_unspecified() {
            TcpStream::connect((Ipv4Addr::LOCALHOST, addresses[0].port())).unwrap();
        }
        addresses
    }

    #[test]
    fn names_and_wildcards_listen_on_every_address() {
        let local = bound("localhost:0");
        assert_eq!(local[0].ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(local.iter().all(|address| address.port() == local[0].port()), "{local:?}");
        assert_eq!(bound("127.0.0.1:0")[0].ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        for text in ["*:0", ":0"] {
            assert!(bound(text)[0].ip().is_unspecified(), "{text}");
        }
    }

    #[test]
    fn loopback_addresses_are_recognized() {
        for (text, expected) in [
            ("127.0.0.1:7001", true),
            ("[::1]:7001", true),
            ("localhost:7001", true),
            ("0.0.0.0:7001", false),
            ("[::]:7001", false),
            ("*:7001", false),
            (":7001", false),
            ("192.0.2.1:7001", false),
        ] {
            assert_eq!(read(text).is_loopback(), expected, "{text}");
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn an_invalid_address_is_rejected_with_the_accepted_forms() {
        for text in ["", "localhost", "7001", "127.0.0.1:", "127.0.0.1:70000", "a b:7001", "*:x"] {
            let why = text.parse::<ListenAddress>().unwrap_err();
            assert!(why.contains("give HOST:PORT"), "{text}: {why}");
        }
    }
}
