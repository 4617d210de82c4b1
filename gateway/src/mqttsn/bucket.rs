//! Token buckets: how often something may be done, in all or for each source.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use nightjar_broker::Timestamp;

/// One bucket. It holds what a second brings, at least one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    pub fn full(rate: f64, now: Timestamp) -> Self {
        Self {
            tokens: rate.max(1.0),
            at: now,
        }
    }

    pub fn take(&mut self, rate: f64, now: Timestamp) -> bool {
        let gained = now.since(self.at) as f64 / 1000.0 * rate;
        self.at = self.at.max(now);
        self.tokens = (self.tokens + gained).min(rate.max(1.0));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// Sources that have a bucket of their own at a time; the ones beyond share those of their prefix.
const SOURCES: usize = 16_384;
/// How many times the rate of one source its whole prefix (/24, /56) may have.
const PREFIX_FACTOR: f64 = 16.0;

/// A bucket for each source address, and one for each prefix.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    sources: HashMap<Source, Bucket, RandomState>,
}

/// What is counted as one source: an address or a prefix; behind a trusted NAT an address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    Port(IpAddr, u16),
    Prefix(u64),
}

/// The /24 of an IPv4 address, the /56 of an IPv6 address.
pub(super) fn prefix(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        IpAddr::V6(address) => 1 << 63 | (address.to_bits() >> 72) as u64,
    }
}

impl Buckets {
    /// May this source do it once more? Behind a trusted NAT each port is a source of its own.
    pub fn take(&mut self, address: IpAddr, port: Option<u16>, rate: f64, now: Timestamp) -> bool {
        let own = match port {
            Some(port) => Source::Port(address, port),
            None => Source::Address(address),
        };
        if self.sources.len() >= SOURCES {
            self.shrink(rate, now);
        }
        let wide = port.is_none().then(|| Source::Prefix(prefix(address)));
        let prefix_ok = wide.is_none_or(|wide| {
            let rate = rate * PREFIX_FACTOR;
            self.sources
                .entry(wide)
                .or_insert_with(|| Bucket::full(rate, now))
                .take(rate, now)
        });
        prefix_ok
            && (self.sources.len() < 2 * SOURCES || self.sources.contains_key(&own))
            && self
                .sources
                .entry(own)
                .or_insert_with(|| Bucket::full(rate, now))
                .take(rate, now)
    }

    /// Forgets those that are full again.
    fn shrink(&mut self, rate: f64, now: Timestamp) {
        let full_after = 1000.0 * (1.0 / rate.max(0.001)).max(1.0) * 2.0;
        self.sources
            .retain(|_, bucket| (now.since(bucket.at) as f64) < full_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_rate_and_a_prefix_sixteen_times_that() {
        let mut buckets = Buckets::default();
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut take = |last, at| buckets.take(address(last), None, 10.0, Timestamp(at));
        assert_eq!((0..20).filter(|_| take(1, 0)).count(), 10);
        assert_eq!((0..20).filter(|_| take(1, 500)).count(), 5);
        let all = (2..=200).filter(|last| take(*last, 500)).count();
        assert!((100..=160).contains(&all), "{all}");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut buckets = Buckets::default();
        for n in 0..200_000u32 {
            buckets.take(IpAddr::from(n.to_be_bytes()), None, 1.0, Timestamp(5));
        }
        assert!(
            buckets.sources.len() <= 2 * SOURCES + 2,
            "{}",
            buckets.sources.len()
        );
    }
}
