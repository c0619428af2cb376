use std::fmt;

use subtle::ConstantTimeEq;

/// The password that clients send to authenticate (`AUTH`).
#[derive(Clone)]
pub struct Password(Vec<u8>);

impl Password {
    /// Maximum length in bytes.
    pub const BYTES_MAX: usize = 512;

    /// Takes the first line of a file's text. Returns `None` if it is empty or too long.
    pub fn from_file_text(text: &[u8]) -> Option<Self> {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (1..=Self::BYTES_MAX).contains(&line.len()).then(|| Self(line.to_vec()))
    }

    /// Compares the password with a guess. The time depends only on the length of the guess.
    pub(super) fn is(&self, guess: &[u8]) -> bool {
        self.0.ct_eq(guess).into()
    }
}

/// Does not reveal the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line_of_its_file() {
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
