use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The name of a group: 1 to 120 printable ASCII characters.
///
/// CPG itself takes any 1 to 128 bytes, but names with a NUL byte or of the full length
/// are mixed up with others inside the daemon, and a member that joined under an empty
/// name stays listed for ever after its death. Such names cannot be made here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Box<str>);

impl GroupName {
    /// The longest name in bytes.
    pub const LENGTH_MAX: usize = 120;

    /// Checks and makes a name.
    ///
    /// # Errors
    ///
    /// [`Error::NameTooLong`] above [`Self::LENGTH_MAX`]; [`Error::InvalidParameter`]
    /// when it is empty or has a character that is not printable ASCII.
    pub fn new(name: &str) -> Result<Self> {
        if name.len() > Self::LENGTH_MAX {
            return Err(Error::NameTooLong);
        }
        if name.is_empty() || !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(Error::InvalidParameter);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_daemon_would_mix_up_cannot_be_made() {
        assert!(GroupName::new("kv").is_ok());
        assert!(GroupName::new(&"x".repeat(120)).is_ok());
        assert_eq!(GroupName::new(&"x".repeat(121)), Err(Error::NameTooLong));
        assert_eq!(GroupName::new(""), Err(Error::InvalidParameter));
        assert_eq!(GroupName::new("a\0b"), Err(Error::InvalidParameter));
        assert_eq!(GroupName::new("grün"), Err(Error::InvalidParameter));
    }
}
