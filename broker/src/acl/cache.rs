//! A client's own memory of verdicts: a hit costs no lock and no walk over rules.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use nightjar_mqtt::QoS;

use crate::access::{Action, Verdict};

/// The last verdicts of one client, owned by its connection.
///
/// Bounded: the one not used for longest goes first. An entry is forgotten after the time to live, and all of them
/// when the generation they were made under has passed, which [`super::AclSources`] counts up with each change.
#[derive(Debug, Default)]
pub struct AccessCache {
    entries: Vec<Entry>,
    hasher: RandomState,
    generation: u64,
    /// Counts questions, so that entries know when they were last used.
    clock: u32,
    /// Position of the entry that answered last: a client mostly asks the same again.
    last: u16,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    /// `None` of a time to live that never ends.
    expires: Option<Instant>,
    used: u32,
    kind: u8,
    verdict: Verdict,
    /// Topic or filter; of a delivery filter, U+0000, topic.
    text: Box<str>,
}

/// What was asked, without owning it.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    kind: u8,
    text: &'a str,
    /// The topic of a delivery.
    second: Option<&'a str>,
}

const SUBSCRIBE: u8 = 4;
const DELIVERY: u8 = 8;
const RETAIN: u8 = 16;

impl<'a> Question<'a> {
    pub fn action(action: Action<'a>) -> Self {
        let kind = match action {
            Action::Publish { qos, retain, .. } => qos.bits() | if retain { RETAIN } else { 0 },
            Action::Subscribe { qos, .. } => qos.bits() | SUBSCRIBE,
        };
        Self {
            kind,
            text: action.topic(),
            second: None,
        }
    }

    pub fn delivery(filter: &'a str, qos: QoS, topic: &'a str) -> Self {
        Self {
            kind: qos.bits() | DELIVERY,
            text: filter,
            second: Some(topic),
        }
    }

    fn hash(self, hasher: &RandomState) -> u64 {
        let mut hasher = hasher.build_hasher();
        hasher.write_u8(self.kind);
        hasher.write(self.text.as_bytes());
        if let Some(second) = self.second {
            hasher.write_u8(0);
            hasher.write(second.as_bytes());
        }
        hasher.finish()
    }

    fn is(self, entry: &Entry) -> bool {
        self.kind == entry.kind
            && match self.second {
                None => *self.text == *entry.text,
                // Neither half holds U+0000, so equal length and equal halves are the same key.
                Some(second) => {
                    entry.text.len() == self.text.len() + 1 + second.len()
                        && entry.text.starts_with(self.text)
                        && entry.text.ends_with(second)
                }
            }
    }

    fn key(self) -> Box<str> {
        match self.second {
            None => self.text.into(),
            Some(second) => [self.text, "\0", second].concat().into(),
        }
    }
}

impl AccessCache {
    /// An empty cache; it allocates with the first verdict.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of verdicts held, for tests and statistics.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no verdict is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    #[inline]
    pub(super) fn get(
        &mut self,
        question: Question<'_>,
        generation: u64,
        now: Instant,
    ) -> Option<Verdict> {
        if self.generation != generation {
            self.entries.clear();
            return None;
        }
        let hash = question.hash(&self.hasher);
        let last = usize::from(self.last);
        let at = match self.entries.get(last) {
            Some(entry) if entry.hash == hash && question.is(entry) => last,
            _ => self
                .entries
                .iter()
                .position(|entry| entry.hash == hash && question.is(entry))?,
        };
        let entry = &mut self.entries[at];
        if entry.expires.is_some_and(|expires| expires <= now) {
            self.entries.swap_remove(at);
            return None;
        }
        self.clock = self.clock.wrapping_add(1);
        entry.used = self.clock;
        self.last = u16::try_from(at).unwrap_or(0);
        Some(entry.verdict)
    }

    pub(super) fn put(
        &mut self,
        question: Question<'_>,
        verdict: Verdict,
        generation: u64,
        limits: Limits,
        now: Instant,
    ) {
        if self.generation != generation {
            self.entries.clear();
            self.generation = generation;
        }
        let size = usize::from(limits.size);
        if size == 0 || limits.ttl.is_zero() {
            return;
        }
        let hash = question.hash(&self.hasher);
        let same = |entry: &Entry| entry.hash == hash && question.is(entry);
        if let Some(at) = self.entries.iter().position(same) {
            self.entries.swap_remove(at);
        }
        while self.entries.len() >= size {
            let clock = self.clock;
            let oldest = (0..self.entries.len())
                .max_by_key(|at| clock.wrapping_sub(self.entries[*at].used))
                .expect("size is not 0, so there is an entry");
            self.entries.swap_remove(oldest);
        }
        if self.entries.len() == self.entries.capacity() {
            // Most clients use one or two topics: no room for four from the start.
            let more = self.entries.len().max(1).min(size - self.entries.len());
            self.entries.reserve_exact(more);
        }
        self.clock = self.clock.wrapping_add(1);
        self.last = u16::try_from(self.entries.len()).unwrap_or(0);
        self.entries.push(Entry {
            hash,
            expires: now.checked_add(limits.ttl),
            used: self.clock,
            kind: question.kind,
            verdict,
            text: question.key(),
        });
    }
}

/// How much a cache holds, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub size: u16,
    pub ttl: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        size: 3,
        ttl: Duration::from_secs(60),
    };

    fn publish(topic: &str) -> Question<'_> {
        Question::action(Action::Publish {
            topic,
            qos: QoS::AtMostOnce,
            retain: false,
        })
    }

    #[test]
    fn least_recently_used_goes_first() {
        let now = Instant::now();
        let mut cache = AccessCache::new();
        for topic in ["a", "b", "c"] {
            cache.put(publish(topic), Verdict::Allow, 0, LIMITS, now);
        }
        assert_eq!(cache.get(publish("a"), 0, now), Some(Verdict::Allow));
        cache.put(publish("d"), Verdict::Deny, 0, LIMITS, now);
        assert_eq!(cache.len(), 3);
        assert_eq!(cache.get(publish("b"), 0, now), None);
        assert_eq!(cache.get(publish("a"), 0, now), Some(Verdict::Allow));
        assert_eq!(cache.get(publish("d"), 0, now), Some(Verdict::Deny));
    }

    #[test]
    fn time_to_live_and_generation_end_an_entry() {
        let now = Instant::now();
        let mut cache = AccessCache::new();
        cache.put(publish("a"), Verdict::Allow, 0, LIMITS, now);
        let later = now + Duration::from_secs(60);
        assert_eq!(cache.get(publish("a"), 0, later), None);
        assert!(cache.is_empty());
        cache.put(publish("a"), Verdict::Allow, 0, LIMITS, now);
        assert_eq!(cache.get(publish("a"), 1, now), None);
        cache.put(publish("a"), Verdict::Deny, 1, LIMITS, now);
        assert_eq!(cache.get(publish("a"), 1, now), Some(Verdict::Deny));
    }

    #[test]
    fn questions_that_differ_in_anything_have_their_own_entries() {
        let qos = QoS::AtLeastOnce;
        let questions = [
            publish("a"),
            Question::action(Action::Publish {
                topic: "a",
                qos,
                retain: false,
            }),
            Question::action(Action::Publish {
                topic: "a",
                qos,
                retain: true,
            }),
            Question::action(Action::Subscribe { filter: "a", qos }),
            Question::delivery("a/b", qos, "c"),
            Question::delivery("a", qos, "b/c"),
        ];
        let limits = Limits { size: 32, ..LIMITS };
        let now = Instant::now();
        for (i, one) in questions.iter().enumerate() {
            let mut cache = AccessCache::new();
            cache.put(*one, Verdict::Allow, 0, limits, now);
            for (j, other) in questions.iter().enumerate() {
                let expected = (i == j).then_some(Verdict::Allow);
                assert_eq!(cache.get(*other, 0, now), expected, "{i} {j}");
            }
        }
    }

    #[test]
    fn size_zero_holds_nothing() {
        let mut cache = AccessCache::new();
        let limits = Limits { size: 0, ..LIMITS };
        cache.put(publish("a"), Verdict::Allow, 0, limits, Instant::now());
        assert!(cache.is_empty());
    }
}
