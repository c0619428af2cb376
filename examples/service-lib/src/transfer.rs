use std::fmt;
use std::str::FromStr;

use plainsong::TransferStatus;

/// Progress of a replica that receives a snapshot. Converts to and from the form in `INFO`:
/// `from=2,bytes=12,of=34,per_second=5,seconds_left=5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The replica that sends it.
    pub from: u64,
    /// Number of bytes received.
    pub bytes: u64,
    /// Size of the snapshot in bytes.
    pub of: u64,
    /// Average rate so far in bytes per second.
    pub per_second: u64,
    /// Estimated time to receive the rest at that rate, in seconds.
    pub seconds_left: u64,
}

impl Transfer {
    /// Takes the progress from a replica's status.
    pub fn of(status: &TransferStatus) -> Self {
        let (per_second, left) = status.pace().unwrap_or_default();
        let TransferStatus { donor, bytes, of_bytes: of, .. } = *status;
        Self { from: donor.0.into(), bytes, of, per_second, seconds_left: left.as_secs() }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, bytes, of, per_second, seconds_left } = self;
        write!(
            f,
            "from={from},bytes={bytes},of={of},per_second={per_second},seconds_left={seconds_left}"
        )
    }
}

impl FromStr for Transfer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.split(',');
        let mut field = |name: &str| {
            let value = fields.next().and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).ok_or(())
        };
        Ok(Self {
            from: field("from")?,
            bytes: field("bytes")?,
            of: field("of")?,
            per_second: field("per_second")?,
            seconds_left: field("seconds_left")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_parses_back_to_the_same_value() {
        let transfer = Transfer { from: 2, bytes: 12, of: 34, per_second: 5, seconds_left: 4 };
        assert_eq!(transfer.to_string().parse(), Ok(transfer));
        assert_eq!("".parse::<Transfer>(), Err(()));
        assert_eq!("from=2,bytes=12".parse::<Transfer>(), Err(()));
    }
}
