//! A log-linear histogram of durations.
//!
//! 128 buckets for each doubling: a value is known to 0.8 %. Fixed size (58 KiB), from 1 ns to half
//! a year, one writer and any number of readers without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bits of a value that pick its bucket within a doubling.
const PRECISION: u32 = 7;
const SUB_BUCKETS: usize = 1 << PRECISION;
/// Values of 2^54 ns (208 days) and above share the last bucket.
const MAX_BITS: u32 = 54;
const BUCKETS: usize = (MAX_BITS - PRECISION + 1) as usize * SUB_BUCKETS;

/// Counts of durations in nanoseconds. Recording is meant for one thread; reading for any.
pub struct Histogram {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << MAX_BITS) - 1);
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(PRECISION + 1);
    // Below 2^(PRECISION+1) buckets are exact; above, `value >> shift` has PRECISION+1 bits.
    shift as usize * SUB_BUCKETS + (value >> shift) as usize
}

/// The largest value that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 2 * SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let base = (bucket - shift * SUB_BUCKETS) as u64;
    ((base + 1) << shift) - 1
}

/// A plain load and store: there is one writer, a locked instruction would be wasted.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(amount),
        Ordering::Relaxed,
    );
}

impl Histogram {
    /// Counts one duration of `nanoseconds`.
    #[inline]
    pub fn record(&self, nanoseconds: u64) {
        add(&self.counts[bucket_of(nanoseconds)], 1);
        add(&self.sum, nanoseconds);
        if nanoseconds > self.max.load(Ordering::Relaxed) {
            self.max.store(nanoseconds, Ordering::Relaxed);
        }
    }

    /// A copy to take percentiles from; several histograms merge into one.
    pub fn snapshot<'a>(histograms: impl IntoIterator<Item = &'a Self>) -> Snapshot {
        let mut snapshot = Snapshot {
            counts: vec![0; BUCKETS],
            total: 0,
            sum: 0,
            max: 0,
        };
        for histogram in histograms {
            for (into, from) in snapshot.counts.iter_mut().zip(&histogram.counts) {
                let count = from.load(Ordering::Relaxed);
                *into += count;
                snapshot.total += count;
            }
            snapshot.sum += histogram.sum.load(Ordering::Relaxed);
            snapshot.max = snapshot.max.max(histogram.max.load(Ordering::Relaxed));
        }
        snapshot
    }
}

/// Merged counts at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
    max: u64,
}

impl Snapshot {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest one, exact.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The arithmetic mean; zero when nothing was recorded.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.total).unwrap_or(0))
    }

    /// The duration that `percent` of all do not exceed, at most 0.8 % too high; zero when nothing
    /// was recorded.
    pub fn percentile(&self, percent: f64) -> Duration {
        let wanted =
            ((self.total as f64 * percent / 100.0).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper_bound(bucket).min(self.max));
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Snapshot {
        let histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        Histogram::snapshot([&histogram])
    }

    #[test]
    fn percentiles_of_a_uniform_range() {
        let snapshot = of((1..=100_000).map(|micro| micro * 1000));
        assert_eq!(snapshot.count(), 100_000);
        for (percent, expected) in [
            (50.0, 50_000_000.0),
            (99.0, 99_000_000.0),
            (99.9, 99_900_000.0),
        ] {
            let got = snapshot.percentile(percent).as_nanos() as f64;
            assert!((got / expected - 1.0).abs() < 0.008, "p{percent}: {got}");
        }
        assert_eq!(snapshot.max(), Duration::from_millis(100));
        assert_eq!(snapshot.percentile(100.0), Duration::from_millis(100));
        assert_eq!(snapshot.mean(), Duration::from_nanos(50_000_500));
    }

    #[test]
    fn empty_and_single() {
        let empty = of([]);
        assert_eq!(empty.percentile(99.0), Duration::ZERO);
        assert_eq!(empty.mean(), Duration::ZERO);
        let one = of([1_234_567]);
        assert_eq!(one.percentile(0.0), Duration::from_nanos(1_234_567));
        assert_eq!(one.percentile(99.9), Duration::from_nanos(1_234_567));
    }

    #[test]
    fn several_histograms_merge() {
        let (fast, slow) = (Histogram::default(), Histogram::default());
        (0..90).for_each(|_| fast.record(10));
        (0..10).for_each(|_| slow.record(1_000_000));
        let merged = Histogram::snapshot([&fast, &slow]);
        assert_eq!(merged.count(), 100);
        assert_eq!(merged.percentile(90.0), Duration::from_nanos(10));
        assert!(merged.percentile(91.0) >= Duration::from_nanos(1_000_000));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_within_one_percent(value in 0u64..1 << MAX_BITS) {
            let bucket = bucket_of(value);
            prop_assert!(bucket < BUCKETS);
            let upper = upper_bound(bucket);
            prop_assert!(upper >= value);
            prop_assert!(upper as f64 <= value as f64 * 1.008);
            prop_assert_eq!(bucket_of(upper), bucket);
            prop_assert_eq!(bucket_of(upper + 1).min(BUCKETS - 1), (bucket + 1).min(BUCKETS - 1));
        }
    }

    #[test]
    fn values_beyond_the_range_fall_into_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
