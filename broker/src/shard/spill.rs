//! Bodies that leave memory for the disk and come back. What the state machine decides does not depend on where a
//! body is: that is the business of the node that holds the shard.

use triomphe::Arc as Shared;

use super::queued::{Body, Place, Queued};
use super::record::{Record, change};
use super::session::{Duty, SessionShard};
use crate::message::Message;

/// A connected session keeps so many windows of its queue in memory.
const KEPT_WINDOWS: usize = 2;

impl Record {
    /// From this place on, its queue may be on the disk.
    fn spills_from(&self) -> usize {
        if self.connected {
            usize::from(self.window) * KEPT_WINDOWS
        } else {
            0
        }
    }
}

/// What refers to a body on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The queue of the session in this slot.
    Session(u32),
    /// What an ended session hands back: the number of that [`Duty`].
    Duty(u64),
}

impl SessionShard {
    /// Bytes of messages in memory, as [`Message::cost`] counts them; a message in many queues counts in each.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Every message that may leave memory, session by session, each queue in order. A message in many queues comes
    /// many times.
    pub fn spillable(&self, each: &mut dyn FnMut(&Message)) {
        for record in self.slots.iter().flatten().filter(|it| it.held > 0) {
            for item in record.queue.from(record.spills_from()) {
                if let Some(message) = item.message() {
                    each(message);
                }
            }
        }
    }

    /// Lets go of the messages for which `place_of` knows a place: they were written there.
    pub fn spill(&mut self, place_of: &mut dyn FnMut(&Message) -> Option<Place>) {
        for slot in &mut self.slots {
            let Some(record) = slot.as_deref().filter(|it| it.held > 0) else {
                continue;
            };
            let from = record.spills_from();
            let mut place = |item: &Queued| {
                let message = item.message()?;
                let place = place_of(message)?;
                Some((place, u32::try_from(message.cost()).ok()?))
            };
            // What stays as it is stays shared with a frozen shard.
            let mut items = record.queue.from(from).enumerate();
            let found = items.find_map(|(at, item)| Some((from + at, place(item)?)));
            drop(items);
            let Some((at, found)) = found else {
                continue;
            };
            let mut first = Some(found);
            let Some(record) = change(slot) else { continue };
            let mut freed = 0;
            let find = |item: &Queued| first.take().or_else(|| place(item));
            record.queue.change_from(at, find, |item, (place, cost)| {
                freed += cost as usize;
                item.set_body(Body::Disk { place, cost });
            });
            record.held -= freed;
            self.held -= freed;
        }
    }

    /// What of a queue is on the disk among the next deliveries at or behind `seq`: sequence, place and cost of each,
    /// at most `count` of them and, but for the first, of `bytes`.
    #[must_use]
    pub fn on_disk(
        &self,
        slot: u32,
        seq: u64,
        count: usize,
        bytes: usize,
    ) -> Vec<(u64, Place, u32)> {
        let Some(record) = self.record(slot) else {
            return Vec::new();
        };
        let at = record.queue.partition_point(|item| item.seq() < seq);
        let mut sum = 0;
        record
            .queue
            .from(at)
            .filter(|item| item.has_body())
            .take(count)
            .filter_map(|item| match item.body() {
                Body::Disk { place, cost } => Some((item.seq(), *place, *cost)),
                _ => None,
            })
            .take_while(|(_, _, cost)| {
                let first = sum == 0;
                sum += *cost as usize;
                first || sum <= bytes
            })
            .collect()
    }

    /// Puts a body back that was read from its place. False if nobody wants it there any more.
    pub fn bring_back(&mut self, holder: Holder, seq: u64, from: Place, message: Message) -> bool {
        let slot = match holder {
            Holder::Session(slot) => slot,
            Holder::Duty(number) => {
                let duty = self.duties.get_mut(&number).map(Shared::make_mut);
                let Some(Duty::HandBack { shared, .. }) = duty else {
                    return false;
                };
                let item = shared.iter_mut().find(|item| {
                    item.seq() == seq
                        && matches!(item.body(), Body::Disk { place, .. } if *place == from)
                });
                return item
                    .map(|item| item.set_body(Body::Memory(message)))
                    .is_some();
            }
        };
        let is_there =
            |item: &Queued| matches!(item.body(), Body::Disk { place, .. } if *place == from);
        let Some(at) = self.record(slot).and_then(|record| {
            let at = record.position(seq)?;
            is_there(&record.queue[at]).then_some(at)
        }) else {
            return false;
        };
        let Some(record) = change(&mut self.slots[slot as usize]) else {
            return false;
        };
        let Some(item) = record.queue.get_mut(at) else {
            return false;
        };
        let cost = message.cost();
        item.set_body(Body::Memory(message));
        record.held += cost;
        self.held += cost;
        true
    }

    /// Every place that anything refers to, with the holder and sequence that do.
    pub fn places(&self, each: &mut dyn FnMut(Holder, u64, Place)) {
        for (slot, record) in self.slots.iter().enumerate() {
            let Some(record) = record.as_deref().filter(|it| it.bytes > it.held) else {
                continue;
            };
            for item in record.queue.iter() {
                if let Body::Disk { place, .. } = item.body() {
                    each(Holder::Session(slot as u32), item.seq(), *place);
                }
            }
        }
        for (number, duty) in &self.duties {
            let Duty::HandBack { shared, .. } = &**duty else {
                continue;
            };
            for item in shared {
                if let Body::Disk { place, .. } = item.body() {
                    each(Holder::Duty(*number), item.seq(), *place);
                }
            }
        }
    }
}
