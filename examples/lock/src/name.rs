use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{NAME_BYTES_MAX, OWNER_BYTES_MAX};

/// The name of a lock: printable ASCII without spaces, so that it looks the same in a table, a log
/// and a shell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name(String);

/// A description of a client, for operators: printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner(String);

/// The error for an invalid [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a lock must have 1 to {NAME_BYTES_MAX} printable ASCII characters and no spaces"
)]
pub struct BadName;

/// The error for an invalid [`Owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the OWNER text must have at most {OWNER_BYTES_MAX} printable ASCII characters")]
pub struct BadOwner;

impl Name {
    /// Returns the name as text.
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
    /// The empty description.
    pub const NONE: Self = Self(String::new());

    /// Returns the closest valid description to `text`: other characters become `?`, and the rest
    /// is cut off at [`OWNER_BYTES_MAX`].
    pub fn about(text: &str) -> Self {
        let shown = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        Self(text.chars().map(shown).take(OWNER_BYTES_MAX).collect())
    }

    /// Returns the description as text.
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
