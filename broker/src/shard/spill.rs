//! Bodies that leave memory for the disk and come back. What the state machine decides does not depend on where a
//! body is: that is the business of the node that holds the shard.

use super::queued::{Body, Place};
use super::record::Record;
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
            let from = record.spills_from().min(record.queue.len());
            for item in record.queue.range(from..) {
                if let Some(message) = item.message() {
                    each(message);
                }
            }
        }
    }

    /// Lets go of the messages for which `place_of` knows a place: they were written there.
    pub fn spill(&mut self, place_of: &mut dyn FnMut(&Message) -> Option<Place>) {
        for record in self.slots.iter_mut().flatten().filter(|it| it.held > 0) {
            let from = record.spills_from().min(record.queue.len());
            let before = record.held;
            let mut freed = 0;
            for item in record.queue.range_mut(from..) {
                let Some((message, place)) = item
                    .message()
                    .and_then(|message| Some((message, place_of(message)?)))
                else {
                    continue;
                };
                let cost = message.cost();
                let Ok(counted) = u32::try_from(cost) else {
                    continue;
                };
                freed += cost;
                item.set_body(Body::Disk {
                    place,
                    cost: counted,
                });
            }
            record.held = before - freed;
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
            .range(at..)
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
                let Some(Duty::HandBack { shared, .. }) = self.duties.get_mut(&number) else {
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
        let Some(record) = self
            .slots
            .get_mut(slot as usize)
            .and_then(|slot| slot.as_deref_mut())
        else {
            return false;
        };
        let Some(at) = record.position(seq) else {
            return false;
        };
        let item = &mut record.queue[at];
        if !matches!(item.body(), Body::Disk { place, .. } if *place == from) {
            return false;
        }
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
            let Duty::HandBack { shared, .. } = duty else {
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
