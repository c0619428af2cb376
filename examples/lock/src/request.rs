//! What clients ask, from its words.

use bytes::Bytes;

use crate::command::{Mode, Patience, Terms, Token};
use crate::limits::{LEASE_MS_MAX, LINGER_MS_MAX, WAIT_MS_MAX};
use crate::{Name, Owner};

/// What `USAGE` says.
pub const USAGE: &[&str] = &[
    "LOCK name [SHARED] [TRY | TIMEOUT seconds] [LEASE seconds] [LINGER seconds] [OWNER text]",
    "    waits for the lock; answers the fencing token, or nil if it was not granted",
    "RESUME name token",
    "    goes on, after the loss of a server or connection, with a lock that has not been passed on;",
    "    answers the token, or nil if the lock is lost",
    "UNLOCK name",
    "    gives the lock back; answers 1, or 0 if this connection did not have it",
    "RENEW name",
    "    begins the lease anew; answers 1, or 0 if this connection does not have the lock",
    "WATCH name",
    "    waits until the lock is lost; answers why, or nil as soon as you ask something else",
    "LIST [AFTER name]",
    "    tells locks by name: name, holders, waiters, and for each holder token, mode, owner,",
    "    replica, milliseconds held, milliseconds left or nil, and whether it is lost",
    "BREAK name [NOW]",
    "    takes the lock from its holders; answers from how many. NOW: without lingering",
    "MEMBERS [SAFE | ADD id | REMOVE id | REPLACE old new]",
    "    tells who is in the group and who votes, or changes who votes; SAFE: tells why no other",
    "    replica should be restarted now, or nothing if one may be",
    "NEWCLUSTER [word]",
    "    goes on alone when a majority is lost for good; without the word tells what may be lost",
    "INFO, PING, USAGE, QUIT",
    "A connection that ends gives back its locks. Times are in seconds; a fraction is fine.",
];

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To have a lock.
    Lock(Name, Terms),
    /// To go on with a lock that another connection had.
    Resume(Name, Token),
    /// To give it back.
    Unlock(Name),
    /// To begin its lease anew.
    Renew(Name),
    /// To be told when it is lost.
    Watch(Name),
    /// To be told about all locks behind this name.
    List(Option<Name>),
    /// To take a lock from its holders; at once, or after they had time to stop.
    Break(Name, bool),
    /// How the replica is.
    Info,
    /// Whether the server is there.
    Ping,
    /// What can be asked.
    Usage,
    /// To close the connection.
    Quit,
    /// What clients of Redis say or ask about themselves; of no interest.
    Courtesy,
}

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ERR {0}")]
pub struct Nonsense(String);

impl Request {
    /// Finds out what the words of a request mean.
    ///
    /// # Errors
    ///
    /// Says what is wrong with them.
    pub fn parse(words: &[Bytes]) -> Result<Self, Nonsense> {
        let words: Vec<&str> = words
            .iter()
            .map(|word| std::str::from_utf8(word).map_err(|_| nonsense("a word is not UTF-8")))
            .collect::<Result<_, _>>()?;
        let verb = words.first().map(|verb| verb.to_ascii_uppercase()).unwrap_or_default();
        let rest = words.get(1..).unwrap_or_default();
        match (verb.as_str(), rest) {
            ("LOCK", [lock, options @ ..]) => Ok(Self::Lock(name(lock)?, terms(options)?)),
            ("RESUME", [lock, token]) => {
                let token = token.parse().map_err(|_| nonsense("a token is a whole number"))?;
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
            ) => Err(nonsense(&format!("{verb} is not asked like that: see USAGE"))),
            (verb, _) => {
                let verb = Owner::about(verb);
                Err(nonsense(&format!("{verb:.20} is no request of a lock service: see USAGE")))
            }
        }
    }
}

fn nonsense(what: &str) -> Nonsense {
    Nonsense(what.into())
}

fn name(text: &str) -> Result<Name, Nonsense> {
    text.parse().map_err(|error: crate::BadName| Nonsense(error.to_string()))
}

fn terms(mut options: &[&str]) -> Result<Terms, Nonsense> {
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
            value.ok_or_else(|| nonsense(&format!("{option} needs a value: see USAGE")))
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
                terms.owner = owner.map_err(|e: crate::BadOwner| Nonsense(e.to_string()))?;
            }
            _ => return Err(nonsense("that is no option of LOCK: see USAGE")),
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

fn ms(option: &str, text: &str, ms_max: u64) -> Result<u64, Nonsense> {
    let max = ms_max / 1000;
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=max as f64).contains(seconds));
    let seconds =
        seconds.ok_or_else(|| nonsense(&format!("{option} takes seconds, from 0 to {max}")))?;
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
    fn nonsense_is_told_in_one_line_with_where_to_look() {
        for (line, told) in [
            ("LOCK", "ERR LOCK is not asked like that: see USAGE"),
            ("BREAK a LATER", "ERR BREAK is not asked like that: see USAGE"),
            ("LOCK a NICELY", "ERR that is no option of LOCK: see USAGE"),
            ("LOCK a TIMEOUT", "ERR TIMEOUT needs a value: see USAGE"),
            ("LOCK a TIMEOUT -1", "ERR TIMEOUT takes seconds, from 0 to 2592000"),
            ("LOCK a LEASE NaN", "ERR LEASE takes seconds, from 0 to 86400"),
            ("LOCK a LINGER 4000", "ERR LINGER takes seconds, from 0 to 3600"),
            ("GET a", "ERR GET is no request of a lock service: see USAGE"),
            (
                "LOCK ä",
                "ERR the name of a lock has 1 to 200 printable ASCII characters and no spaces",
            ),
        ] {
            assert_eq!(parse(line), Err(told.into()), "{line}");
        }
        let long = format!("LOCK {}", "x".repeat(201));
        assert!(parse(&long).is_err_and(|error| error.contains("200")));
    }
}
