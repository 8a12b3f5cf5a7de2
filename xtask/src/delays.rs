//! How long records took from the commit in Postgres until the reader had them.

/// Delays in milliseconds.
#[derive(Debug, Default)]
pub struct Delays(Vec<f64>);

impl Delays {
    /// One more.
    pub fn add(&mut self, delay_ms: f64) {
        self.0.push(delay_ms);
    }

    /// The delay that `percent` of the records did not exceed (nearest rank); `None` without records.
    pub fn percentile(&mut self, percent: usize) -> Option<f64> {
        self.0.sort_by(f64::total_cmp);
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Delays;

    #[test]
    fn percentiles_are_delays_that_occurred() {
        let mut delays = Delays((1..=200).rev().map(f64::from).collect());
        assert_eq!(delays.percentile(50), Some(100.0));
        assert_eq!(delays.percentile(99), Some(198.0));
        assert_eq!(delays.percentile(100), Some(200.0));
        assert_eq!(Delays(vec![7.0]).percentile(1), Some(7.0));
        assert_eq!(Delays::default().percentile(50), None);
    }
}
