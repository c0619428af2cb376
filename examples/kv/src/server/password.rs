use std::fmt;

use subtle::ConstantTimeEq;

/// What clients say to be served (`AUTH`).
#[derive(Clone)]
pub struct Password(Vec<u8>);

impl Password {
    /// The longest that is taken.
    pub const BYTES_MAX: usize = 512;

    /// From the text of a file: its first line. `None` if that is empty or too long.
    pub fn from_file_text(text: &[u8]) -> Option<Self> {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (1..=Self::BYTES_MAX).contains(&line.len()).then(|| Self(line.to_vec()))
    }

    /// Takes as long for any guess of its length.
    pub(super) fn is(&self, guess: &[u8]) -> bool {
        self.0.ct_eq(guess).into()
    }
}

/// It is told to nobody.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_nothing_else() {
        for text in ["secret", "secret\n", "secret\r\nmore\n"] {
            let password = Password::from_file_text(text.as_bytes()).unwrap();
            assert!(password.is(b"secret"));
            for other in ["", "secre", "secret\n", "Secret", "secret\r"] {
                assert!(!password.is(other.as_bytes()), "{other:?}");
            }
            assert_eq!(format!("{password:?}"), "Password(..)");
        }
        let long = "x".repeat(Password::BYTES_MAX + 1);
        for text in ["", "\n", "\nsecret", "\r\n", &long] {
            assert!(Password::from_file_text(text.as_bytes()).is_none(), "{text:?}");
        }
    }
}
