//! Natural numbers of any size, with the few operations that parsing and formatting need.

use std::cmp::Ordering;

/// Digits in base 2^32, least significant first, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Big(Vec<u32>);

/// Largest power of ten that fits into a digit.
const CHUNK: u32 = 1_000_000_000;
/// Exponent of that power.
const CHUNK_DIGITS: usize = 9;

impl From<u64> for Big {
    fn from(number: u64) -> Self {
        Self(vec![number as u32, (number >> 32) as u32]).trimmed()
    }
}

impl Big {
    /// Parses digits in base 10 or 16. The caller has checked them.
    pub(super) fn from_digits(digits: &[u8], base: u32) -> Self {
        let mut number = Self(Vec::new());
        // Seven digits fit into 32 bits in both bases.
        for chunk in digits.chunks(7) {
            let value = chunk.iter().fold(0, |value, digit| {
                value * base + char::from(*digit).to_digit(base).unwrap_or(0)
            });
            number.multiply_add(base.pow(chunk.len() as u32), value);
        }
        number
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn times_power_of_ten(mut self, power: usize) -> Self {
        for _ in 0..power / CHUNK_DIGITS {
            self.multiply_add(CHUNK, 0);
        }
        self.multiply_add(10_u32.pow((power % CHUNK_DIGITS) as u32), 0);
        self
    }

    fn multiply_add(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    pub(super) fn bits(&self) -> i64 {
        match self.0.last() {
            Some(last) => self.0.len() as i64 * 32 - i64::from(last.leading_zeros()),
            None => 0,
        }
    }

    /// Multiplies by 2^`shift`.
    pub(super) fn shifted(&self, shift: u32) -> Self {
        let (digits, bits) = ((shift / 32) as usize, shift % 32);
        let mut shifted = vec![0; digits];
        let mut carry = 0;
        for digit in &self.0 {
            let wide = u64::from(*digit) << bits | carry;
            shifted.push(wide as u32);
            carry = wide >> 32;
        }
        shifted.push(carry as u32);
        Self(shifted).trimmed()
    }

    /// Returns the highest 128 bits, true if any bit below them is set, and their binary exponent.
    pub(super) fn highest(&self) -> (u128, bool, i64) {
        let cut = (self.bits() - 128).max(0);
        let (digits, bits) = ((cut / 32) as usize, (cut % 32) as u32);
        let mut value = 0;
        for (at, digit) in self.0[digits..].iter().enumerate() {
            let wide = u128::from(*digit);
            value |= match (at as u32 * 32).checked_sub(bits) {
                Some(up) => wide.checked_shl(up).unwrap_or(0),
                None => wide >> bits,
            };
        }
        let cut_off = self.0[..digits].iter().any(|digit| *digit != 0)
            || self.0.get(digits).is_some_and(|digit| digit & ((1 << bits) - 1) != 0);
        (value, cut_off, cut)
    }

    /// Divides by `divisor`, which must be so large that the quotient has at most 68 bits. Returns
    /// the quotient, and true if there is a remainder.
    pub(super) fn divided_by(mut self, divisor: &Self) -> (u128, bool) {
        let mut quotient = 0;
        for place in (0..68).rev() {
            let part = divisor.shifted(place);
            quotient <<= 1;
            if self.cmp(&part) != Ordering::Less {
                self.subtract(&part);
                quotient |= 1;
            }
        }
        (quotient, !self.is_zero())
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Subtracts `other`, which must not be larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = 0;
        for (at, digit) in self.0.iter_mut().enumerate() {
            let taken = i64::from(other.0.get(at).copied().unwrap_or(0)) + borrow;
            let difference = i64::from(*digit) - taken;
            borrow = i64::from(difference < 0);
            *digit = difference as u32;
        }
        let trimmed = Self(std::mem::take(&mut self.0)).trimmed();
        *self = trimmed;
    }

    pub(super) fn decimal(mut self) -> String {
        let mut chunks = Vec::new();
        while !self.is_zero() {
            let mut rest = 0;
            for digit in self.0.iter_mut().rev() {
                let wide = rest << 32 | u64::from(*digit);
                *digit = (wide / u64::from(CHUNK)) as u32;
                rest = wide % u64::from(CHUNK);
            }
            chunks.push(rest);
            self = self.trimmed();
        }
        let Some(first) = chunks.pop() else { return "0".into() };
        let rest = chunks.iter().rev().map(|chunk| format!("{chunk:09}"));
        std::iter::once(first.to_string()).chain(rest).collect()
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }
}
