//! Floating point numbers of 80 bits, computed in software.
//!
//! Redis adds floating point numbers as `long double`, which has 80 bits on x86-64 and other sizes
//! elsewhere. Replicas on different processors must agree on every bit, so this module parses, adds
//! and formats such numbers with integer arithmetic only: a 64-bit significand, a 15-bit exponent,
//! and rounding to nearest with ties to even. The results are those of Redis on x86-64.

mod big;
mod read;

use big::Big;

/// Longest text of a number in bytes, as in Redis.
pub const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

/// Exponent of the smallest positive number, which is 1 × 2^`EXPONENT_MIN`.
const EXPONENT_MIN: i32 = -16_445;

/// Exponent of the largest numbers, whose significand is below 2^64.
const EXPONENT_MAX: i32 = 16_320;

/// Number of digits after the decimal point in formatted numbers.
const FRACTION_DIGITS: usize = 17;

/// 10 to the power of [`FRACTION_DIGITS`].
const FRACTION: u128 = 100_000_000_000_000_000;

/// A finite number: significand × 2^exponent. The highest bit of the significand is set, unless the
/// exponent is `EXPONENT_MIN` or the number is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    is_negative: bool,
    significand: u64,
    exponent: i32,
}

/// A parsed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A finite number.
    Finite(Extended),
    /// Infinity of either sign, which Redis parses but never stores.
    Infinite,
}

impl Extended {
    /// Zero.
    pub const ZERO: Self = Self { is_negative: false, significand: 0, exponent: EXPONENT_MIN };

    /// Rounds `value` × 2^`exponent`. If `is_more` is true, the exact value is slightly larger than
    /// `value`, which then has at least 66 bits. Returns `None` if the result is too large.
    fn rounded(is_negative: bool, value: u128, is_more: bool, exponent: i32) -> Option<Self> {
        let bits = (u128::BITS - value.leading_zeros()) as i32;
        let shift = (bits - 64).max(EXPONENT_MIN - exponent);
        let (significand, exponent) = if shift <= 0 {
            ((value << -shift) as u64, exponent + shift)
        } else {
            let rounded = half_even(value, shift as u32, is_more);
            match u64::try_from(rounded) {
                Ok(significand) => (significand, exponent + shift),
                Err(_) => (1 << 63, exponent + shift + 1),
            }
        };
        if significand == 0 {
            return Some(Self { is_negative, ..Self::ZERO });
        }
        (exponent <= EXPONENT_MAX).then_some(Self { is_negative, significand, exponent })
    }

    /// Returns the sum, or `None` if it is too large.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.significand == 0 {
            return Some(other);
        }
        if other.significand == 0 {
            return Some(self);
        }
        let (large, small) = if self.top() >= other.top() { (self, other) } else { (other, self) };
        // Shifts the highest bit of the larger number to bit 126, which leaves room for the carry.
        let room = 126 - (63 - large.significand.leading_zeros() as i32);
        let (one, exponent) = (u128::from(large.significand) << room, large.exponent - room);
        let shift = small.exponent - exponent;
        let (other, is_more) = match u32::try_from(shift) {
            Ok(shift) => (u128::from(small.significand) << shift, false),
            Err(_) if shift <= -64 => (0, true),
            Err(_) => {
                let kept = small.significand >> -shift;
                (u128::from(kept), kept << -shift != small.significand)
            }
        };
        if large.is_negative == small.is_negative {
            return Self::rounded(large.is_negative, one + other, is_more, exponent);
        }
        match one.checked_sub(other) {
            Some(0) if !is_more => Some(Self::ZERO),
            // The bits cut off from the smaller number make the difference slightly smaller.
            Some(difference) if is_more => {
                Self::rounded(large.is_negative, difference - 1, true, exponent)
            }
            Some(difference) => Self::rounded(large.is_negative, difference, false, exponent),
            // Both have the same highest bit, so nothing was cut off.
            None => Self::rounded(small.is_negative, other - one, false, exponent),
        }
    }

    /// Returns the binary exponent of the highest bit.
    fn top(self) -> i32 {
        self.exponent + 63 - self.significand.leading_zeros() as i32
    }

    /// Formats the number in decimal, rounded to 17 digits after the point, without trailing zeros.
    pub fn text(self) -> String {
        let digits = if self.exponent >= 0 {
            Big::from(self.significand).shifted(self.exponent as u32).decimal()
        } else {
            let scaled = u128::from(self.significand) * FRACTION;
            let scaled = half_even(scaled, self.exponent.unsigned_abs(), false);
            let (whole, fraction) = (scaled / FRACTION, scaled % FRACTION);
            let text = format!("{whole}.{fraction:0width$}", width = FRACTION_DIGITS);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        if self.is_negative && digits != "0" { format!("-{digits}") } else { digits }
    }
}

/// Returns `value` / 2^`shift`, rounded to nearest with ties to even. If `is_more` is true, the
/// exact value is slightly larger than `value`.
fn half_even(value: u128, shift: u32, is_more: bool) -> u128 {
    if shift == 0 {
        return value;
    }
    let kept = value.checked_shr(shift).unwrap_or(0);
    let Some(half) = 1_u128.checked_shl(shift - 1) else { return 0 };
    let rest = value & (half | (half - 1));
    let is_up = match rest.cmp(&half) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => is_more || kept % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    kept + u128::from(is_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, other: &str) -> String {
        let read = |text: &str| match Extended::read(text.as_bytes()) {
            Some(Read::Finite(number)) => number,
            other => panic!("{text}: {other:?}"),
        };
        read(one).checked_add(read(other)).map_or_else(|| "too large".into(), Extended::text)
    }

    #[test]
    fn sums_are_those_of_long_double() {
        for (one, other, expected) in [
            ("0", "0", "0"),
            ("-0", "0", "0"),
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("3", "-5", "-2"),
            ("1", "-1", "0"),
            ("1e20", "0.1", "100000000000000000000"),
            ("-1.5", "1.5", "0"),
            ("1e-17", "0", "0.00000000000000001"),
            ("4e-18", "0", "0"),
            ("-4e-18", "0", "0"),
            ("0x1p-3", "0", "0.125"),
            ("0x.8", "0xA.8p1", "21.5"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("18446744073709551616", "-1", "18446744073709551615"),
            ("1.18973149535723176502e+4932", "1e4932", "too large"),
        ] {
            assert_eq!(sum(one, other), expected, "{one} + {other}");
            assert_eq!(sum(other, one), expected, "{other} + {one}");
        }
        assert_eq!(sum("1e4932", "0").len(), 4933);
        assert!(sum("1e4932", "0").starts_with("1000000000000000000006018949387963891323"));
    }

    #[test]
    fn text_that_is_not_entirely_a_number_is_rejected() {
        for text in [
            "",
            " 1",
            "1 ",
            "+",
            "-",
            ".",
            "1e",
            "1e+",
            "e1",
            "0x",
            "0x.",
            "0x1p",
            "1.2.3",
            "--1",
            "nan",
            "-nan",
            "nan(1)",
            "infinit",
            "1\u{0}",
            "1e5000",
            "1e-5000",
            "0x1p99999999999",
            "1e99999999999999999999",
            "12a",
            "1f",
        ] {
            assert_eq!(Extended::read(text.as_bytes()), None, "{text:?}");
        }
        for text in ["inf", "-INF", "+Infinity"] {
            assert_eq!(Extended::read(text.as_bytes()), Some(Read::Infinite), "{text:?}");
        }
        for (text, number) in
            [("+1", "1"), (".5", "0.5"), ("5.", "5"), ("0e99999", "0"), ("007", "7")]
        {
            assert_eq!(sum(text, "0"), number, "{text:?}");
        }
        let long = "0".repeat(TEXT_BYTES_MAX);
        assert_eq!(sum(&long, "0"), "0");
        assert_eq!(Extended::read(format!("{long}0").as_bytes()), None);
        // About the smallest positive number, and half of it.
        assert!(Extended::read(b"3.6e-4951").is_some());
        assert_eq!(Extended::read(b"1.8e-4951"), None);
    }
}
