use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{NAME_BYTES_MAX, OWNER_BYTES_MAX};

/// The name of a lock: printable ASCII without spaces, so that it reads the same in a
/// table, a log and a shell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(String);

/// Who wants a lock, in words for people: printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner(String);

/// Not the name of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a lock has 1 to {NAME_BYTES_MAX} printable ASCII characters and no spaces")]
pub struct BadName;

/// Not a text that says who an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an owner is told in at most {OWNER_BYTES_MAX} printable ASCII characters")]
pub struct BadOwner;

impl Name {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(BadName)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Owner {
    /// Nothing is told.
    pub const NONE: Self = Self(String::new());

    /// As near to the text as an owner can be told.
    pub fn about(text: &str) -> Self {
        let shown = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        Self(text.chars().map(shown).take(OWNER_BYTES_MAX).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Owner {
    type Err = BadOwner;

    fn from_str(text: &str) -> Result<Self, BadOwner> {
        let about = Self::about(text);
        if about.0 == text { Ok(about) } else { Err(BadOwner) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
