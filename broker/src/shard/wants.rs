//! Who wants what: the subscriptions of a shard's sessions, and messages on their way into queues.

use nightjar_mqtt::{QoS, TopicFilter};
use smallvec::SmallVec;

use super::entry::{Enqueue, Reply};
use super::queued::{Body, Queued};
use super::record::{Enqueued, Record, change};
use super::session::{Effect, SessionShard};
use crate::handle::DropReason;
use crate::message::Message;
use crate::subscription::Subscription;

struct Hit {
    slot: u32,
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    checked: bool,
    ids: SmallVec<[u32; 2]>,
}

impl SessionShard {
    pub(super) fn subscribe(
        &mut self,
        client_id: &str,
        epoch: u64,
        subs: Vec<(TopicFilter, Subscription)>,
        effects: &mut Vec<Effect>,
    ) -> Reply {
        let Some((slot, _)) = self.current(client_id, epoch) else {
            return Reply::Stale;
        };
        for (filter, sub) in subs {
            let record = change(&mut self.slots[slot as usize]).expect("the slot was just found");
            let old = record.subs.insert(filter.clone(), sub);
            let indexed = old.is_some_and(|old| old.options.qos() != QoS::AtMostOnce);
            if sub.options.qos() == QoS::AtMostOnce {
                if indexed {
                    self.unindex(slot, &filter, effects);
                }
                continue;
            }
            if filter.shared().is_some() {
                if !indexed {
                    self.share(filter, effects);
                }
                continue;
            }
            let subscribers = self.index.get_or_insert(&filter);
            if subscribers.is_empty() {
                effects.push(Effect::RouteAdded(filter));
            }
            subscribers.put(slot, sub, !indexed);
        }
        Reply::None
    }

    pub(super) fn unsubscribe(
        &mut self,
        client_id: &str,
        epoch: u64,
        filters: &[TopicFilter],
        effects: &mut Vec<Effect>,
    ) -> Reply {
        let Some((slot, _)) = self.current(client_id, epoch) else {
            return Reply::Stale;
        };
        for filter in filters {
            let record = change(&mut self.slots[slot as usize]).expect("the slot was just found");
            if record
                .subs
                .remove(filter)
                .is_some_and(|old| old.options.qos() != QoS::AtMostOnce)
            {
                self.unindex(slot, filter, effects);
            }
        }
        Reply::None
    }

    /// One more session is a member of a shared subscription with QoS 1 or 2.
    fn share(&mut self, filter: TopicFilter, effects: &mut Vec<Effect>) {
        let members = self.shared.entry(filter.clone()).or_insert(0);
        *members += 1;
        if *members == 1 {
            effects.push(Effect::RouteAdded(filter));
        }
    }

    pub(super) fn unindex(&mut self, slot: u32, filter: &TopicFilter, effects: &mut Vec<Effect>) {
        if filter.shared().is_some() {
            if let Some(members) = self.shared.get_mut(filter) {
                *members -= 1;
                if *members == 0 {
                    self.shared.remove(filter);
                    effects.push(Effect::RouteRemoved(filter.clone()));
                }
            }
            return;
        }
        let Some(subscribers) = self.index.get_mut(filter) else {
            return;
        };
        subscribers.remove(slot);
        if subscribers.is_empty() {
            self.index.remove(filter);
            effects.push(Effect::RouteRemoved(filter.clone()));
        }
    }

    pub(super) fn publish(&mut self, message: &Message, effects: &mut Vec<Effect>) -> Reply {
        let mut hits: SmallVec<[Hit; 8]> = SmallVec::new();
        let mut lists = 0;
        self.index.matches(message.topic(), |subscribers| {
            lists += 1;
            hits.extend(subscribers.iter().map(|(slot, sub)| Hit {
                slot: *slot,
                qos: sub.options.qos(),
                no_local: sub.options.no_local(),
                retain_as_published: sub.options.retain_as_published(),
                checked: sub.options.checked(),
                ids: (sub.id != 0).then_some(sub.id).into_iter().collect(),
            }));
        });
        if lists > 1 {
            merge(&mut hits);
        }
        let publisher = message.head().publisher.as_deref();
        let mut reply = Reply::None;
        for hit in hits {
            let record =
                change(&mut self.slots[hit.slot as usize]).expect("an indexed slot has a record");
            if hit.no_local && publisher == Some(&*record.client_id) {
                continue;
            }
            let item = Queued::new(Body::Memory(message.clone()), hit.qos.min(message.qos()))
                .with_retain(hit.retain_as_published && message.retain())
                .with_checked(hit.checked)
                .with_sub_ids(hit.ids);
            let held = record.held;
            if queue_up(record, hit.slot, item, effects) {
                reply = Reply::Rejected;
            }
            self.held = self.held + record.held - held;
        }
        reply
    }

    pub(super) fn enqueue(&mut self, enqueue: Enqueue, effects: &mut Vec<Effect>) -> Reply {
        let Some(slot) = self.slot(&enqueue.client_id) else {
            return Reply::Stale;
        };
        let record = change(&mut self.slots[slot as usize])
            .expect("a slot in the client table has a record");
        let ids = (enqueue.sub_id != 0)
            .then_some(enqueue.sub_id)
            .into_iter()
            .collect();
        let item = Queued::new(Body::Memory(enqueue.message), enqueue.qos)
            .with_retain(enqueue.retain)
            .with_checked(enqueue.checked)
            .with_sub_ids(ids)
            .with_group(enqueue.group);
        let held = record.held;
        let rejected = queue_up(record, slot, item, effects);
        self.held = self.held + record.held - held;
        if rejected {
            Reply::Rejected
        } else {
            Reply::None
        }
    }
}

/// Puts a message into a queue and says so; true if the policy rejects it.
fn queue_up(record: &mut Record, slot: u32, item: Queued, effects: &mut Vec<Effect>) -> bool {
    let outcome = record.enqueue(item);
    let mut dropped = |count| {
        effects.push(Effect::Dropped {
            client_id: record.client_id.clone(),
            reason: DropReason::QueueFull,
            count,
        });
    };
    match outcome {
        Enqueued::Queued => {}
        Enqueued::DroppedOldest(count) => dropped(count),
        Enqueued::Dropped => {
            dropped(1);
            return false;
        }
        Enqueued::DroppedToo(count) => {
            dropped(count);
            return false;
        }
        Enqueued::Rejected => {
            dropped(1);
            return true;
        }
    }
    effects.push(Effect::Ready { slot });
    false
}

/// One delivery for a session whose subscriptions overlap [MQTT-3.3.4-2..-4].
fn merge(hits: &mut SmallVec<[Hit; 8]>) {
    hits.sort_by_key(|hit| hit.slot);
    hits.dedup_by(|next, kept| {
        if next.slot != kept.slot {
            return false;
        }
        kept.qos = kept.qos.max(next.qos);
        kept.no_local &= next.no_local;
        kept.retain_as_published |= next.retain_as_published;
        kept.checked &= next.checked;
        kept.ids.append(&mut next.ids);
        true
    });
}
