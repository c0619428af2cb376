use bytes::Bytes;

/// A random number generator that is determined by its seed.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Creates a generator with this seed.
    pub fn new(seed: u64) -> Self {
        let mut draw = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        draw.next();
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end.max(1)
    }

    /// Returns `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Bytes {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }

    /// Returns a length of at most `longest`: mostly short, sometimes long.
    pub fn length(&mut self, longest: usize) -> usize {
        let longest = longest >> self.below(12);
        self.below(longest as u64 + 1) as usize
    }
}
