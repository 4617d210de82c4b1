//! How long things take: histograms with fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets in milliseconds; a last one is for all above.
pub const BUCKETS_MS: [u64; 14] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 60_000,
];

/// A histogram of milliseconds. Adding costs three relaxed additions.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_ms: AtomicU64,
}

/// What a histogram holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramView {
    /// Counts by bucket of [`BUCKETS_MS`], not cumulated; the last is for all above.
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// Sum of all values, milliseconds.
    pub sum_ms: u64,
}

impl Histogram {
    /// Adds a value.
    #[inline]
    pub fn observe(&self, ms: u64) {
        let at = BUCKETS_MS
            .iter()
            .position(|&bound| ms <= bound)
            .unwrap_or(BUCKETS_MS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// What it holds now.
    #[must_use]
    pub fn view(&self) -> HistogramView {
        HistogramView {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum_ms: self.sum_ms.load(Ordering::Relaxed),
        }
    }
}

impl HistogramView {
    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What came since an earlier view.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
            sum_ms: self.sum_ms.saturating_sub(earlier.sum_ms),
        }
    }

    /// The bound of the bucket that holds this share (0 to 1) of all values; `None` without values, and for what lies
    /// above the last bound that bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (at, in_bucket) in self.buckets.iter().enumerate() {
            seen += in_bucket;
            if seen >= rank {
                return Some(BUCKETS_MS[at.min(BUCKETS_MS.len() - 1)]);
            }
        }
        None
    }
}

/// The histograms of one broker.
#[derive(Debug, Default)]
pub struct Latencies {
    /// From the time the broker took a message until it was put into a subscriber's write buffer. Of each write the
    /// first message is measured: the one that waited longest.
    pub delivery: Histogram,
    /// From accepting a connection until CONNACK.
    pub connect: Histogram,
    /// Answers of the HTTP API.
    pub http: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_below_their_bound() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 3, 5, 60_000, 60_001, u64::from(u32::MAX)] {
            histogram.observe(ms);
        }
        let view = histogram.view();
        assert_eq!(view.count(), 8);
        assert_eq!(view.buckets[..3], [2, 1, 2]);
        assert_eq!(view.buckets[BUCKETS_MS.len() - 1..], [1, 2]);
        assert_eq!(view.quantile(0.5), Some(5));
        assert_eq!(view.since(&view).quantile(0.5), None);
    }
}
