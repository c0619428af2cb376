use std::time::Duration;

/// splitmix64: what one seed draws, it draws again, on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Draws from that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..limit`; 0 for an empty range.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit.max(1)
    }

    /// Whether something that happens that often in a thousand happens now.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// A span of at most that length.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64 + 1))
    }

    /// One of those.
    pub fn pick<V: Copy>(&mut self, of: &[V]) -> V {
        of[self.below(of.len() as u64) as usize]
    }
}
