//! Messages for shared subscriptions whose members' sessions stay, while no node with such a member is known: a session
//! moves between nodes when one fails, and for a moment nobody says that it is with him. They are held, unacknowledged,
//! until somebody does.

use std::sync::Arc;

use nightjar_mqtt::{QoS, ReasonCode, TopicFilter};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::handle::DropReason;
use crate::message::Message;
use crate::publish::{Placed, PublishBatch, Published, find_group};
use crate::router::Group;
use crate::shard::Effect;
use crate::ticket::{Completion, Ticket};

/// Messages held at once; more are refused.
const MAX_HELD: usize = 100_000;

#[derive(Debug)]
struct HeldMessage {
    message: Message,
    name: Box<str>,
    filter: TopicFilter,
    done: Arc<Completion>,
}

/// What waits for a member of a shared subscription.
#[derive(Debug, Default)]
pub(crate) struct HeldMessages {
    messages: Mutex<Vec<HeldMessage>>,
    /// What shards owe and could not be done, with its shard.
    duties: Mutex<Vec<(u16, Effect)>>,
}

impl HeldMessages {
    /// Holds a message; done when a member has it.
    fn hold(&self, message: &Message, group: &Group) -> Ticket {
        let done = Completion::new(1);
        let mut messages = self.messages.lock();
        if messages.len() >= MAX_HELD {
            done.complete(Err(ReasonCode::QuotaExceeded));
        } else {
            messages.push(HeldMessage {
                message: message.clone(),
                name: group.name().into(),
                filter: group.filter().clone(),
                done: done.clone(),
            });
        }
        Ticket::on(done)
    }

    /// Keeps what a shard owes until a member can be found.
    pub fn owe(&self, shard: u16, effect: Effect) {
        self.duties.lock().push((shard, effect));
    }
}

impl Broker {
    /// Holds a message that nobody can be given now, if the group has members that come back; else it is dropped.
    pub(crate) fn hold_or_drop(
        &self,
        message: &Message,
        group: &Group,
        reason: DropReason,
        batch: &mut PublishBatch,
    ) {
        if message.qos() != QoS::AtMostOnce && group.is_durable() {
            batch.wait_for(self.held.hold(message, group));
        } else {
            self.metrics().dropped(reason, 1);
        }
    }

    /// Tries again to find members for what is held.
    pub(crate) fn retry_held(&self) {
        for (shard, effect) in std::mem::take(&mut *self.held.duties.lock()) {
            self.carry_out(shard, effect);
        }
        let held = std::mem::take(&mut *self.held.messages.lock());
        if held.is_empty() {
            return;
        }
        let serving = self.store().is_serving();
        let mut still = Vec::new();
        for item in held {
            if !serving {
                item.done.complete(Err(ReasonCode::ServerUnavailable));
                continue;
            }
            let route = self.router().route(item.message.topic());
            let Some(group) = find_group(&route, &item.name, &item.filter) else {
                // The last member unsubscribed, or its session ended.
                self.metrics().dropped(DropReason::SessionEnded, 1);
                item.done.complete(Ok(()));
                continue;
            };
            let mut batch = PublishBatch::default();
            let mut published = Published::default();
            match self.place(&item.message, &group, None, &mut batch, &mut published) {
                Placed::Taken => {
                    let (ticket, stall) = self.finish_batch(&mut batch);
                    if let Some(stall) = stall {
                        stall.ignore();
                    }
                    item.done.follow(ticket);
                }
                Placed::Nobody | Placed::Full if group.is_durable() => still.push(item),
                Placed::Nobody | Placed::Full => {
                    self.metrics().dropped(DropReason::SessionEnded, 1);
                    item.done.complete(Ok(()));
                }
            }
        }
        let mut messages = self.held.messages.lock();
        still.append(&mut messages);
        *messages = still;
    }
}
