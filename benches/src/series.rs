use std::fmt;

/// Results of several rounds, printed as their median, lowest and highest.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds the result of a round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Returns the ratios to another series, round by round.
    pub fn per(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect())
    }

    /// Returns the median.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        write!(f, "{:.2} ({least:.2} to {most:.2})", self.median())
    }
}

/// Returns a quantile of sorted values, or the last value for a share of 1.
pub fn percentile<V: Copy>(sorted: &[V], share: f64) -> Option<V> {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied()
}
