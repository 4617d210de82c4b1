//! Memory of verified passwords, so that a reconnect storm costs no hashing.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

/// Entries in each of the two halves; 32 bytes and the table's overhead each.
const MAX: usize = 65_536;

/// What was verified, as keyed hashes of (stored hash, password) under a secret of this process.
///
/// Because the stored hash is part of it, a changed password is forgotten by itself. Wrong passwords are not kept:
/// each guess costs the attacker's share of hashing again. Two halves take turns, so forgetting costs nothing: an entry
/// lives for half of `time` to all of it, less when there are more than 131,072 users.
pub(super) struct Verified {
    key: hmac::Key,
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
    turned: Instant,
    time: Duration,
}

impl Verified {
    /// `None` if the time is zero or the system has no random numbers: then nothing is remembered.
    pub fn new(time: Duration, now: Instant) -> Option<Self> {
        if time.is_zero() {
            return None;
        }
        Some(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?,
            young: HashSet::new(),
            old: HashSet::new(),
            turned: now,
            time,
        })
    }

    pub fn tag(&self, stored: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(stored.len() as u64).to_be_bytes());
        context.update(stored.as_bytes());
        context.update(password);
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    pub fn holds(&mut self, tag: &[u8; 32], now: Instant) -> bool {
        self.turn(now);
        self.young.contains(tag) || self.old.contains(tag)
    }

    pub fn remember(&mut self, tag: [u8; 32], now: Instant) {
        self.turn(now);
        if self.young.len() >= MAX {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        self.young.insert(tag);
    }

    pub fn clear(&mut self) {
        self.young = HashSet::new();
        self.old = HashSet::new();
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age < self.time / 2 {
            return;
        }
        let young = std::mem::take(&mut self.young);
        self.old = if age < self.time {
            young
        } else {
            HashSet::new()
        };
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(600);

    #[test]
    fn only_the_same_hash_and_password_are_remembered_and_not_for_long() {
        let start = Instant::now();
        let mut verified = Verified::new(TIME, start).expect("random numbers");
        let tag = verified.tag("$6$hash", b"password");
        assert!(!verified.holds(&tag, start));
        verified.remember(tag, start);
        assert!(verified.holds(&tag, start));
        assert_ne!(verified.tag("$6$hash", b"passwore"), tag);
        assert_ne!(verified.tag("$6$hasp", b"password"), tag);
        assert_ne!(verified.tag("$6$hashp", b"assword"), tag);
        assert!(verified.holds(&tag, start + TIME / 2));
        assert!(!verified.holds(&tag, start + TIME));
        verified.remember(tag, start + TIME);
        verified.clear();
        assert!(!verified.holds(&tag, start + TIME));
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut verified = Verified::new(TIME, start).expect("random numbers");
        for i in 0..(3 * MAX as u64) {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&i.to_be_bytes());
            verified.remember(tag, start);
        }
        assert!(verified.young.len() + verified.old.len() <= 2 * MAX);
    }
}
