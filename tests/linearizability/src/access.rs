/// An access of a client to a register. The initial value of a register is zero, and no value is
/// written twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Answers the value.
    Read {
        /// The register's number.
        register: u64,
    },
    /// Sets the value; answers the value before.
    Write {
        /// The register's number.
        register: u64,
        /// The new value.
        value: u64,
    },
    /// Sets the value if it is `from`; answers the value before.
    Swap {
        /// The register's number.
        register: u64,
        /// The value that the register must have.
        from: u64,
        /// The new value.
        to: u64,
    },
}

impl Access {
    /// Returns the register's number.
    pub fn register(self) -> u64 {
        match self {
            Self::Read { register }
            | Self::Write { register, .. }
            | Self::Swap { register, .. } => register,
        }
    }

    /// Returns the value that the access may set.
    pub fn written(self) -> Option<u64> {
        match self {
            Self::Read { .. } => None,
            Self::Write { value, .. } | Self::Swap { to: value, .. } => Some(value),
        }
    }

    /// Returns the register's value after the access.
    pub fn after(self, before: u64) -> u64 {
        match self {
            Self::Read { .. } => before,
            Self::Write { value, .. } => value,
            Self::Swap { from, to, .. } if before == from => to,
            Self::Swap { .. } => before,
        }
    }
}
