//! A limit on wrong passwords for each address.

use std::collections::HashMap;
use std::net::IpAddr;

use nightjar_broker::Timestamp;
use parking_lot::Mutex;

/// Wrong passwords in one window.
const MAX_WRONG: u32 = 5;
/// The window, milliseconds.
const WINDOW: u64 = 60_000;
/// Addresses remembered.
const MAX_ADDRESSES: usize = 10_000;

/// Counts wrong passwords by address, IPv6 by its /64.
#[derive(Debug, Default)]
pub struct Limiter {
    wrong: Mutex<HashMap<IpAddr, (u32, Timestamp)>>,
}

impl Limiter {
    /// May this address try? Else the seconds it has to wait.
    ///
    /// # Errors
    /// Seconds until the next try.
    pub fn check(&self, address: IpAddr, now: Timestamp) -> Result<(), u64> {
        let wrong = self.wrong.lock();
        match wrong.get(&network(address)) {
            Some((count, since)) if *count >= MAX_WRONG && now.since(*since) < WINDOW => {
                Err((WINDOW - now.since(*since)).div_ceil(1000))
            }
            _ => Ok(()),
        }
    }

    /// Counts a wrong password.
    pub fn wrong(&self, address: IpAddr, now: Timestamp) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MAX_ADDRESSES {
            wrong.retain(|_, (_, since)| now.since(*since) < WINDOW);
            if wrong.len() >= MAX_ADDRESSES {
                // So many addresses at once are an attack; forgetting some is better than growing.
                wrong.clear();
            }
        }
        let entry = wrong.entry(network(address)).or_insert((0, now));
        if now.since(entry.1) >= WINDOW {
            *entry = (0, now);
        }
        entry.0 += 1;
    }

    /// A right password clears the address.
    pub fn right(&self, address: IpAddr) {
        self.wrong.lock().remove(&network(address));
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_passwords_a_minute_are_too_many() {
        let limiter = Limiter::default();
        let [a, b, c]: [IpAddr; 3] =
            ["10.0.0.1", "2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        for n in 0..5 {
            assert_eq!(limiter.check(a, Timestamp(n)), Ok(()));
            limiter.wrong(a, Timestamp(n));
            limiter.wrong(b, Timestamp(n));
        }
        assert_eq!(limiter.check(a, Timestamp(30_000)), Err(30));
        assert!(limiter.check(c, Timestamp(5)).is_err(), "the same /64");
        assert_eq!(limiter.check(a, Timestamp(WINDOW)), Ok(()));
        limiter.right(b);
        assert_eq!(limiter.check(b, Timestamp(5)), Ok(()));
    }
}
