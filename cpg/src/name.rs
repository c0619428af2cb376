use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Name of a group: 1 to 120 printable ASCII characters.
///
/// CPG itself accepts any 1 to 128 bytes. But the daemon confuses names that contain a NUL byte or
/// have the full length with others, and a process that joined under an empty name stays in the
/// member list forever after its death. This type rejects such names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Box<str>);

impl GroupName {
    /// Maximum length of a name in bytes.
    pub const LENGTH_MAX: usize = 120;

    /// Creates a name.
    ///
    /// # Errors
    ///
    /// [`Error::NameTooLong`] above [`Self::LENGTH_MAX`]; [`Error::InvalidParameter`] if the name
    /// is empty or contains a character that is not printable ASCII.
    pub fn new(name: &str) -> Result<Self> {
        if name.len() > Self::LENGTH_MAX {
            return Err(Error::NameTooLong);
        }
        if name.is_empty() || !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(Error::InvalidParameter);
        }
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
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
    fn names_that_the_daemon_would_confuse_are_rejected() {
        assert!(GroupName::new("kv").is_ok());
        assert!(GroupName::new(&"x".repeat(120)).is_ok());
        assert_eq!(GroupName::new(&"x".repeat(121)), Err(Error::NameTooLong));
        assert_eq!(GroupName::new(""), Err(Error::InvalidParameter));
        assert_eq!(GroupName::new("a\0b"), Err(Error::InvalidParameter));
        assert_eq!(GroupName::new("grün"), Err(Error::InvalidParameter));
    }
}
