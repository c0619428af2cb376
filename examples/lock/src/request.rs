//! The requests of clients, and their parser.

use bytes::Bytes;

use crate::command::{Mode, Patience, Terms, Token};
use crate::limits::{LEASE_MS_MAX, LINGER_MS_MAX, WAIT_MS_MAX};
use crate::{Name, Owner};

/// The lines of the reply to `USAGE`.
pub const USAGE: &[&str] = &[
    "LOCK name [SHARED] [TRY | TIMEOUT seconds] [LEASE seconds] [LINGER seconds] [OWNER text]",
    "    waits for the lock; returns the fencing token, or nil if it was not granted",
    "RESUME name token",
    "    moves a lock to this connection, for a client that has lost its server or connection;",
    "    returns the token, or nil if the lock is lost",
    "UNLOCK name",
    "    releases the lock; returns 1, or 0 if this connection did not have it",
    "RENEW name",
    "    renews the lease; returns 1, or 0 if this connection does not have the lock",
    "WATCH name",
    "    waits until the lock is lost and returns the reason; returns nil at your next request",
    "LIST [AFTER name]",
    "    lists locks in the order of names: name, holders, waiters, and per holder: token, mode,",
    "    owner, replica, milliseconds held, milliseconds left or nil, and held or lost",
    "BREAK name [NOW]",
    "    takes the lock from its holders; returns their number. NOW: does not let them stop first",
    "MEMBERS [SAFE | ADD id | REMOVE id | REPLACE old new]",
    "    lists the members and voters, or changes the voters. SAFE: says why no other replica should",
    "    be restarted now; empty if one may be",
    "NEWCLUSTER [code]",
    "    makes this replica a new single-voter cluster when a majority is lost for good; without the",
    "    confirmation code, shows what may be lost",
    "INFO, PING, USAGE, QUIT",
    "A connection that ends releases its locks. Times are in seconds; fractions are allowed.",
];

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Acquires a lock.
    Lock(Name, Terms),
    /// Moves a lock that another connection had to this one.
    Resume(Name, Token),
    /// Releases a lock.
    Unlock(Name),
    /// Renews the lease of a lock.
    Renew(Name),
    /// Waits until a lock is lost.
    Watch(Name),
    /// Lists the locks after this name.
    List(Option<Name>),
    /// Takes a lock from its holders: at once if true, or else after they had time to stop.
    Break(Name, bool),
    /// Shows the state of the replica.
    Info,
    /// Tests whether the server answers.
    Ping,
    /// Lists the requests.
    Usage,
    /// Closes the connection.
    Quit,
    /// `COMMAND` and `CLIENT`, which Redis clients send by themselves; answered with an empty list.
    Courtesy,
}

/// The error for an invalid request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ERR {0}")]
pub struct BadRequest(String);

impl Request {
    /// Parses the words of a request.
    ///
    /// # Errors
    ///
    /// Returns [`BadRequest`] with a description of the mistake.
    pub fn parse(words: &[Bytes]) -> Result<Self, BadRequest> {
        let words: Vec<&str> = words
            .iter()
            .map(|word| {
                std::str::from_utf8(word).map_err(|_| bad_request("the request is not valid UTF-8"))
            })
            .collect::<Result<_, _>>()?;
        let verb = words.first().map(|verb| verb.to_ascii_uppercase()).unwrap_or_default();
        let rest = words.get(1..).unwrap_or_default();
        match (verb.as_str(), rest) {
            ("LOCK", [lock, options @ ..]) => Ok(Self::Lock(name(lock)?, terms(options)?)),
            ("RESUME", [lock, token]) => {
                let token =
                    token.parse().map_err(|_| bad_request("the token must be a whole number"))?;
                Ok(Self::Resume(name(lock)?, token))
            }
            ("UNLOCK", [lock]) => Ok(Self::Unlock(name(lock)?)),
            ("RENEW", [lock]) => Ok(Self::Renew(name(lock)?)),
            ("WATCH", [lock]) => Ok(Self::Watch(name(lock)?)),
            ("LIST", []) => Ok(Self::List(None)),
            ("LIST", [after, lock]) if after.eq_ignore_ascii_case("after") => {
                Ok(Self::List(Some(name(lock)?)))
            }
            ("BREAK", [lock]) => Ok(Self::Break(name(lock)?, false)),
            ("BREAK", [lock, now]) if now.eq_ignore_ascii_case("now") => {
                Ok(Self::Break(name(lock)?, true))
            }
            ("INFO", _) => Ok(Self::Info),
            ("PING", []) => Ok(Self::Ping),
            ("USAGE", []) => Ok(Self::Usage),
            ("QUIT", []) => Ok(Self::Quit),
            ("COMMAND" | "CLIENT", _) => Ok(Self::Courtesy),
            (
                verb @ ("LOCK" | "RESUME" | "UNLOCK" | "RENEW" | "WATCH" | "LIST" | "BREAK"
                | "PING" | "USAGE" | "QUIT"),
                _,
            ) => Err(bad_request(&format!("wrong arguments for {verb}: see USAGE"))),
            (verb, _) => {
                let verb = Owner::about(verb);
                Err(bad_request(&format!("unknown request {verb:.20}: see USAGE")))
            }
        }
    }
}

fn bad_request(what: &str) -> BadRequest {
    BadRequest(what.into())
}

fn name(text: &str) -> Result<Name, BadRequest> {
    text.parse().map_err(|error: crate::BadName| BadRequest(error.to_string()))
}

fn terms(mut options: &[&str]) -> Result<Terms, BadRequest> {
    let mut terms = Terms {
        mode: Mode::Exclusive,
        patience: Patience::Endless,
        lease_ms: None,
        linger_ms: 0,
        owner: Owner::NONE,
    };
    while let [option, rest @ ..] = options {
        let value = || {
            let value = rest.first().copied();
            value.ok_or_else(|| bad_request(&format!("{option} needs a value: see USAGE")))
        };
        let mut taken = 1;
        match option.to_ascii_uppercase().as_str() {
            "SHARED" => {
                terms.mode = Mode::Shared;
                taken = 0;
            }
            "TRY" => {
                terms.patience = Patience::None;
                taken = 0;
            }
            "TIMEOUT" => terms.patience = Patience::of_ms(ms(option, value()?, WAIT_MS_MAX)?),
            "LEASE" => {
                let lease = ms(option, value()?, LEASE_MS_MAX)?;
                terms.lease_ms = Some(lease.max(1));
            }
            "LINGER" => terms.linger_ms = ms(option, value()?, LINGER_MS_MAX)?,
            "OWNER" => {
                let owner = value()?.parse();
                terms.owner = owner.map_err(|e: crate::BadOwner| BadRequest(e.to_string()))?;
            }
            _ => {
                return Err(bad_request(&format!(
                    "unknown option {:.20} of LOCK: see USAGE",
                    Owner::about(option)
                )));
            }
        }
        options = rest.get(taken..).unwrap_or_default();
    }
    Ok(terms)
}

impl Patience {
    fn of_ms(ms: u64) -> Self {
        if ms == 0 { Self::None } else { Self::Ms(ms) }
    }
}

fn ms(option: &str, text: &str, ms_max: u64) -> Result<u64, BadRequest> {
    let max = ms_max / 1000;
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=max as f64).contains(seconds));
    let seconds = seconds
        .ok_or_else(|| bad_request(&format!("{option} must be in seconds, from 0 to {max}")))?;
    Ok((seconds * 1000.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let words: Vec<Bytes> =
            line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        Request::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_of_lock_are_read() {
        let line = "lock a shared timeout 1.5 LEASE 30 LINGER 0.0001 OWNER me";
        let terms = Terms {
            mode: Mode::Shared,
            patience: Patience::Ms(1500),
            lease_ms: Some(30_000),
            linger_ms: 1,
            owner: "me".parse().unwrap(),
        };
        assert_eq!(parse(line), Ok(Request::Lock("a".parse().unwrap(), terms)));
        let Ok(Request::Lock(_, terms)) = parse("LOCK a TIMEOUT 0") else { panic!("no lock") };
        assert_eq!(terms.patience, Patience::None);
    }

    #[test]
    fn the_error_for_a_bad_request_is_one_line_with_a_remedy() {
        for (line, expected) in [
            ("LOCK", "ERR wrong arguments for LOCK: see USAGE"),
            ("BREAK a LATER", "ERR wrong arguments for BREAK: see USAGE"),
            ("LOCK a NICELY", "ERR unknown option NICELY of LOCK: see USAGE"),
            ("LOCK a TIMEOUT", "ERR TIMEOUT needs a value: see USAGE"),
            ("LOCK a TIMEOUT -1", "ERR TIMEOUT must be in seconds, from 0 to 2592000"),
            ("LOCK a LEASE NaN", "ERR LEASE must be in seconds, from 0 to 86400"),
            ("LOCK a LINGER 4000", "ERR LINGER must be in seconds, from 0 to 3600"),
            ("GET a", "ERR unknown request GET: see USAGE"),
            (
                "LOCK ä",
                "ERR the name of a lock must have 1 to 200 printable ASCII characters and no spaces",
            ),
        ] {
            assert_eq!(parse(line), Err(expected.into()), "{line}");
        }
        let long = format!("LOCK {}", "x".repeat(201));
        assert!(parse(&long).is_err_and(|error| error.contains("200")));
    }
}
