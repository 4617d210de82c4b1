//! The drop ledger: what was not delivered last, to whom, and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use nightjar_mqtt::TopicName;

use super::ring::{Heap, Rings};
use crate::handle::DropReason;
use crate::time::Timestamp;

/// Entries kept.
const KEPT: usize = 4096;
/// Bytes of their topics and client identifiers, as if nobody else had these texts.
const TEXTS: usize = 3 << 18;
/// Drops noted between two refills; the counters know of all.
const BUDGET: i64 = 400;

/// Deliveries that were dropped for one client, one topic, one reason, one after the other.
#[derive(Debug, Clone)]
pub struct Drop {
    /// The last of them.
    pub at: Timestamp,
    /// Whose.
    pub client_id: Arc<str>,
    /// Topic; `None` where the durable backend dropped several.
    pub topic: Option<TopicName>,
    /// Who had published it, if that is known.
    pub publisher: Option<Arc<str>>,
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub count: u64,
}

impl Heap for Drop {
    fn heap(&self) -> usize {
        let shared = |text: usize| text + 16;
        shared(self.client_id.len())
            + self
                .topic
                .as_ref()
                .map_or(0, |it| shared(it.as_str().len()))
            + self.publisher.as_ref().map_or(0, |it| shared(it.len()))
    }
}

/// The last drops, in about 1 MiB when full.
#[derive(Debug)]
pub struct DropLedger {
    rings: Rings<Drop>,
    budget: AtomicI64,
    now: AtomicU64,
}

impl Default for DropLedger {
    fn default() -> Self {
        Self {
            rings: Rings::new(KEPT, TEXTS),
            budget: AtomicI64::new(BUDGET),
            now: AtomicU64::new(Timestamp::now().0),
        }
    }
}

impl DropLedger {
    /// Notes a drop, if there were not too many since the last [`Self::refill`]: in a flood this costs one load.
    pub fn record(
        &self,
        client_id: &Arc<str>,
        topic: Option<&TopicName>,
        publisher: Option<&Arc<str>>,
        reason: DropReason,
        count: u64,
    ) {
        if count == 0
            || self.budget.load(Ordering::Relaxed) <= 0
            || self.budget.fetch_sub(1, Ordering::Relaxed) <= 0
        {
            return;
        }
        let at = Timestamp(self.now.load(Ordering::Relaxed));
        self.rings.with(client_id, |ring| {
            let same = ring.iter_mut().rev().take(8).find(|have| {
                *have.client_id == **client_id
                    && have.reason == reason
                    && have.topic.as_ref() == topic
            });
            match same {
                Some(have) => {
                    have.count += count;
                    have.at = at;
                }
                None => ring.push(Drop {
                    at,
                    client_id: client_id.clone(),
                    topic: topic.cloned(),
                    publisher: publisher.cloned(),
                    reason,
                    count,
                }),
            }
        });
    }

    /// Time passed: notes are taken again.
    pub fn refill(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::Relaxed);
        self.budget.store(BUDGET, Ordering::Relaxed);
    }

    /// The last drops that `keep` wants, newest first.
    #[must_use]
    pub fn list(&self, limit: usize, mut keep: impl FnMut(&Drop) -> bool) -> Vec<Drop> {
        let mut found = Vec::new();
        self.rings.each(|ring| {
            found.extend(
                ring.iter()
                    .rev()
                    .filter(|drop| keep(drop))
                    .take(limit)
                    .cloned(),
            )
        });
        found.sort_by_key(|drop| std::cmp::Reverse(drop.at));
        found.truncate(limit);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_drops_is_noted_in_bounds_and_again_after_a_while() {
        let ledger = DropLedger::default();
        let client: Arc<str> = "slow".into();
        for n in 0..10_000 {
            let topic = TopicName::new(format!("t/{n}")).unwrap();
            ledger.record(&client, Some(&topic), None, DropReason::QueueFull, 1);
        }
        let noted = ledger.list(usize::MAX, |_| true).len();
        assert!((1..=BUDGET as usize).contains(&noted), "{noted}");
        // However long topics are.
        for n in 0..5000 {
            ledger.refill(Timestamp(n));
            let topic = TopicName::new(format!("{n}/{}", "t".repeat(n as usize * 12))).unwrap();
            ledger.record(
                &format!("c{n}").into(),
                Some(&topic),
                None,
                DropReason::QueueFull,
                1,
            );
        }
        assert!(ledger.rings.bytes() < 3 << 19, "{}", ledger.rings.bytes());
        ledger.refill(Timestamp(7));
        ledger.record(&client, None, None, DropReason::Expired, 3);
        ledger.record(&client, None, None, DropReason::Expired, 4);
        let last = ledger.list(10, |drop| drop.reason == DropReason::Expired);
        assert_eq!(
            (last.len(), last[0].count, last[0].at),
            (1, 7, Timestamp(7))
        );
    }
}
