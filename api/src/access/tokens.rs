//! Tokens that a login gives out. A node alone has them in memory, where a restart ends them; the nodes of a cluster keep
//! them together, so that whichever node answers knows them.

use std::collections::HashMap;
use std::time::Duration;

use nightjar_broker::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::everywhere::{Values, commit, committed, name_of};
use super::secret::{digest_of, random_token};
use super::{AccessError, Principal, Role};

/// Milliseconds without use after which a token ends.
const IDLE: u64 = 3_600_000;
/// Milliseconds after which it ends in any case.
const LIFE: u64 = 12 * 3_600_000;
/// Tokens at a time; the one that was not used for longest goes first.
const MAX: usize = 1000;
/// Milliseconds of use that the other nodes are not told of.
const UNTOLD: u64 = 300_000;
/// A token that was given out just now is on every node within this.
const SOON: (u32, Duration) = (10, Duration::from_millis(50));

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    name: String,
    role: Role,
    ends: Timestamp,
    used: Timestamp,
}

/// The tokens of a node and of its cluster, known by their digests.
#[derive(Debug)]
pub struct Tokens {
    /// Those of this node alone.
    map: Mutex<HashMap<[u8; 32], Token>>,
    shared: Values,
}

impl Tokens {
    /// None yet but those of the cluster.
    pub fn new(shared: Values) -> Self {
        Self {
            map: Mutex::default(),
            shared,
        }
    }

    /// A new token for somebody, and when it ends at the latest. Without a majority of the cluster it counts on this
    /// node alone.
    ///
    /// # Errors
    /// [`AccessError::Random`] if the system has no random numbers.
    pub async fn issue(
        &self,
        who: Principal,
        now: Timestamp,
    ) -> Result<(String, Timestamp), AccessError> {
        let text = random_token()?;
        let digest = digest_of(&text);
        let ends = now.plus_millis(LIFE);
        let token = Token {
            name: who.name,
            role: who.role,
            ends,
            used: now,
        };
        if self.shared.is_shared() {
            self.make_room(now);
            let ticket = self.shared.set(&name_of(&digest), &token);
            if committed(ticket).await.is_ok() {
                return Ok((text, ends));
            }
        }
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
        map.insert(digest, token);
        Ok((text, ends))
    }

    /// Removes what ended from the cluster's tokens, and the oldest where there are too many.
    fn make_room(&self, now: Timestamp) {
        let (mut valid, over): (Vec<_>, Vec<_>) = self
            .shared
            .all::<Token>()
            .into_iter()
            .partition(|(_, token)| token.is_valid(now));
        valid.sort_by_key(|(_, token)| token.used);
        let many = (valid.len() + 1).saturating_sub(MAX);
        for (name, _) in over.iter().chain(valid.iter().take(many)) {
            // It is over whether or not this is committed.
            let _ = self.shared.remove(name);
        }
    }

    /// Whose is it? Using a token keeps it alive.
    pub fn find(&self, token: &str, now: Timestamp) -> Option<Principal> {
        let digest = digest_of(token);
        {
            let mut map = self.map.lock();
            if let Some(found) = map.get_mut(&digest) {
                if found.is_valid(now) {
                    found.used = now;
                    return Some(found.who());
                }
                map.remove(&digest);
                return None;
            }
        }
        let name = name_of(&digest);
        let mut found: Token = self.shared.get(&name)?;
        if !found.is_valid(now) {
            let _ = self.shared.remove(&name);
            return None;
        }
        if now.since(found.used) > UNTOLD {
            found.used = now;
            // Who does not hear of it ends the token for disuse somewhat early.
            let _ = self.shared.set(&name, &found);
        }
        Some(found.who())
    }

    /// As [`Self::find`], for a token that another node may have given out just now.
    pub async fn find_soon(&self, token: &str, now: Timestamp) -> Option<Principal> {
        let (times, pause) = SOON;
        for _ in 0..times {
            if let Some(who) = self.find(token, now) {
                return Some(who);
            }
            if !self.shared.is_shared() {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
        self.find(token, now)
    }

    /// Ends a token. Where no majority hears of it, it lives on until its time is over: an error says so.
    ///
    /// # Errors
    /// [`AccessError::NoMajority`].
    pub async fn revoke(&self, token: &str) -> Result<(), AccessError> {
        let digest = digest_of(token);
        self.map.lock().remove(&digest);
        committed(self.shared.remove(&name_of(&digest))).await
    }

    /// Ends all tokens of an account, whose password or role changed. Call it off the workers.
    ///
    /// # Errors
    /// [`AccessError::NoMajority`].
    pub fn revoke_all_of(&self, name: &str) -> Result<(), AccessError> {
        self.map.lock().retain(|_, token| token.name != name);
        let theirs = self
            .shared
            .all::<Token>()
            .into_iter()
            .filter(|(_, token)| token.name == name);
        let gone = theirs.map(|(digest, _)| self.shared.remove(&digest));
        commit(nightjar_broker::Ticket::all(gone.collect::<Vec<_>>()))
    }
}

impl Token {
    fn is_valid(&self, now: Timestamp) -> bool {
        now < self.ends && now.since(self.used) < IDLE
    }

    fn who(&self) -> Principal {
        Principal {
            name: self.name.clone(),
            role: self.role,
            is_key: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nightjar_broker::meta::MemoryMeta;

    use super::*;

    fn eve() -> Principal {
        Principal {
            name: "eve".into(),
            role: Role::Viewer,
            is_key: false,
        }
    }

    #[tokio::test]
    async fn tokens_end_by_disuse_by_age_and_by_revocation() {
        let tokens = Tokens::new(Values::new(None, "t/"));
        let issue = async |now| tokens.issue(eve(), Timestamp(now)).await.unwrap().0;
        let one = issue(0).await;
        assert!(tokens.find(&one, Timestamp(IDLE - 1)).is_some());
        assert!(tokens.find(&one, Timestamp(2 * IDLE)).is_none());
        let two = issue(0).await;
        for n in 1..24 {
            assert!(tokens.find(&two, Timestamp(n * IDLE / 2)).is_some());
        }
        assert!(tokens.find(&two, Timestamp(LIFE)).is_none());
        let three = issue(0).await;
        tokens.revoke_all_of("eve").unwrap();
        assert!(tokens.find(&three, Timestamp(1)).is_none());
        for _ in 0..2 * MAX {
            issue(5).await;
        }
        assert!(tokens.map.lock().len() <= MAX);
    }

    #[tokio::test]
    async fn a_token_of_one_node_is_known_and_ended_on_another() {
        let meta: Arc<MemoryMeta> = Arc::default();
        let node = || Tokens::new(Values::new(Some(meta.clone()), "t/"));
        let (first, second) = (node(), node());
        let (one, _) = first.issue(eve(), Timestamp(1)).await.unwrap();
        assert_eq!(second.find(&one, Timestamp(2)), Some(eve()));
        // Used on the second alone, it stays alive for the first.
        for n in 1..4 {
            assert!(second.find(&one, Timestamp(n * IDLE / 2)).is_some());
        }
        assert!(first.find(&one, Timestamp(2 * IDLE)).is_some());
        second.revoke(&one).await.unwrap();
        assert_eq!(first.find(&one, Timestamp(2 * IDLE + 1)), None);
        let (two, _) = second.issue(eve(), Timestamp(1)).await.unwrap();
        first.revoke_all_of("eve").unwrap();
        assert_eq!(second.find(&two, Timestamp(2)), None);
        let (three, _) = second.issue(eve(), Timestamp(1)).await.unwrap();
        assert_eq!(first.find(&three, Timestamp(IDLE + 1)), None);
        for _ in 0..MAX + 10 {
            first.issue(eve(), Timestamp(5)).await.unwrap();
        }
        assert!(first.shared.all::<Token>().len() <= MAX);
        assert_eq!(second.find_soon("unknown", Timestamp(5)).await, None);
    }
}
