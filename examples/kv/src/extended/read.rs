//! Parses numbers as `strtold` does in the C locale.

use super::big::Big;
use super::{Extended, Read, TEXT_BYTES_MAX};

/// Maximum absolute exponent. Larger ones are reduced to this, which is far out of range anyway.
const EXPONENT_TEXT_MAX: i64 = 100_000;

impl Extended {
    /// Parses a text as a decimal or hexadecimal number or infinity. Returns `None` for anything
    /// else, including numbers that are too large or too close to zero.
    pub fn read(text: &[u8]) -> Option<Read> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(Read::Infinite);
        }
        let number = match text {
            [b'0', b'x' | b'X', rest @ ..] => hexadecimal(is_negative, rest),
            _ => decimal(is_negative, text),
        };
        number.map(Read::Finite)
    }
}

/// The parts of a number's text.
struct Parts {
    /// Digits before and after the point.
    digits: Vec<u8>,
    /// Number of digits after the point.
    after_point: i64,
    exponent: i64,
}

fn parts(text: &[u8], is_digit: fn(&u8) -> bool, mark: u8) -> Option<Parts> {
    let end = text.iter().position(|byte| byte.eq_ignore_ascii_case(&mark));
    let (digits, exponent) = match end {
        Some(end) => (&text[..end], exponent(&text[end + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &digits[digits.len()..]),
    };
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.iter().all(is_digit) {
        return None;
    }
    Some(Parts { digits, after_point: fraction.len() as i64, exponent })
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| (number * 10 + i64::from(digit - b'0')).min(EXPONENT_TEXT_MAX));
    Some(if is_negative { -number } else { number })
}

fn hexadecimal(is_negative: bool, text: &[u8]) -> Option<Extended> {
    let parts = parts(text, u8::is_ascii_hexdigit, b'p')?;
    let number = Big::from_digits(&parts.digits, 16);
    rounded(is_negative, &number, parts.exponent - 4 * parts.after_point)
}

fn decimal(is_negative: bool, text: &[u8]) -> Option<Extended> {
    let Parts { digits, after_point, exponent } = parts(text, u8::is_ascii_digit, b'e')?;
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    let (digits, exponent) = (&digits[leading..], exponent - after_point);
    // Far out of range, so computing the number would be a waste.
    let magnitude = digits.len() as i64 + exponent;
    if !digits.is_empty() && !(-4970..=4940).contains(&magnitude) {
        return None;
    }
    let number = Big::from_digits(digits, 10);
    match usize::try_from(exponent) {
        _ if number.is_zero() => Some(Extended { is_negative, ..Extended::ZERO }),
        Ok(power) => rounded(is_negative, &number.times_power_of_ten(power), 0),
        Err(_) => {
            let divisor = Big::from(1).times_power_of_ten(exponent.unsigned_abs() as usize);
            // The quotient has 67 or 68 bits, which is enough to round.
            let shift = divisor.bits() + 67 - number.bits();
            let up = |by: i64| u32::try_from(by).unwrap_or(0);
            let (quotient, is_more) =
                number.shifted(up(shift)).divided_by(&divisor.shifted(up(-shift)));
            nonzero(Extended::rounded(is_negative, quotient, is_more, i32::try_from(-shift).ok()?))
        }
    }
}

/// Rounds `number` × 2^`exponent`.
fn rounded(is_negative: bool, number: &Big, exponent: i64) -> Option<Extended> {
    if number.is_zero() {
        return Some(Extended { is_negative, ..Extended::ZERO });
    }
    let (value, is_more, cut) = number.highest();
    let exponent = i32::try_from(exponent + cut).ok()?;
    nonzero(Extended::rounded(is_negative, value, is_more, exponent))
}

/// Rejects zero: a nonzero number that is rounded to zero is out of range.
fn nonzero(number: Option<Extended>) -> Option<Extended> {
    number.filter(|number| number.significand != 0)
}
