//! Tokens that a login gives out. They live in memory: a restart ends them.

use std::collections::HashMap;

use nightjar_broker::Timestamp;
use parking_lot::Mutex;

use super::secret::{digest_of, random_token};
use super::{AccessError, Principal};

/// Milliseconds without use after which a token ends.
const IDLE: u64 = 3_600_000;
/// Milliseconds after which it ends in any case.
const LIFE: u64 = 12 * 3_600_000;
/// Tokens at a time; the one that was not used for longest goes first.
const MAX: usize = 1000;

#[derive(Debug)]
struct Token {
    who: Principal,
    ends: Timestamp,
    used: Timestamp,
}

/// The tokens of a node, known by their digests.
#[derive(Debug, Default)]
pub struct Tokens {
    map: Mutex<HashMap<[u8; 32], Token>>,
}

impl Tokens {
    /// A new token for somebody, and when it ends at the latest.
    ///
    /// # Errors
    /// [`AccessError::Random`] if the system has no random numbers.
    pub fn issue(
        &self,
        who: Principal,
        now: Timestamp,
    ) -> Result<(String, Timestamp), AccessError> {
        let token = random_token()?;
        let ends = now.plus_millis(LIFE);
        let mut map = self.map.lock();
        map.retain(|_, token| token.is_valid(now));
        if map.len() >= MAX
            && let Some(oldest) = map
                .iter()
                .min_by_key(|(_, token)| token.used)
                .map(|(digest, _)| *digest)
        {
            map.remove(&oldest);
        }
        map.insert(
            digest_of(&token),
            Token {
                who,
                ends,
                used: now,
            },
        );
        Ok((token, ends))
    }

    /// Whose is it? Using a token keeps it alive.
    pub fn find(&self, token: &str, now: Timestamp) -> Option<Principal> {
        let mut map = self.map.lock();
        let digest = digest_of(token);
        let found = map.get_mut(&digest)?;
        if !found.is_valid(now) {
            map.remove(&digest);
            return None;
        }
        found.used = now;
        Some(found.who.clone())
    }

    /// Ends a token.
    pub fn revoke(&self, token: &str) {
        self.map.lock().remove(&digest_of(token));
    }

    /// Ends all tokens of an account, whose password or role changed.
    pub fn revoke_all_of(&self, name: &str) {
        self.map.lock().retain(|_, token| token.who.name != name);
    }
}

impl Token {
    fn is_valid(&self, now: Timestamp) -> bool {
        now < self.ends && now.since(self.used) < IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;

    #[test]
    fn tokens_end_by_disuse_by_age_and_by_revocation() {
        let who = Principal {
            name: "eve".into(),
            role: Role::Viewer,
            is_key: false,
        };
        let tokens = Tokens::default();
        let issue = |now| tokens.issue(who.clone(), Timestamp(now)).unwrap().0;
        let one = issue(0);
        assert!(tokens.find(&one, Timestamp(IDLE - 1)).is_some());
        assert!(tokens.find(&one, Timestamp(2 * IDLE)).is_none());
        let two = issue(0);
        for n in 1..24 {
            assert!(tokens.find(&two, Timestamp(n * IDLE / 2)).is_some());
        }
        assert!(tokens.find(&two, Timestamp(LIFE)).is_none());
        let three = issue(0);
        tokens.revoke_all_of("eve");
        assert!(tokens.find(&three, Timestamp(1)).is_none());
        for _ in 0..2 * MAX {
            issue(5);
        }
        assert!(tokens.map.lock().len() <= MAX);
    }
}
