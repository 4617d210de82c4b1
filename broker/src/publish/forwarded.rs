//! Messages that came from other nodes, or that were for a node that is gone.

use super::{PublishBatch, Published, find_group, for_group};
use crate::broker::Broker;
use crate::handle::DropReason;
use crate::mesh::Forward;
use crate::message::Message;
use crate::router::{Route, Target};
use crate::ticket::Ticket;

/// How often a message for a shared subscription is handed on.
const MAX_HOPS: u8 = 3;

impl Broker {
    /// Takes messages that another node forwarded: to the sessions of this node that want them. Done when those of
    /// QoS 1 and 2 are queued.
    pub fn take_forwarded(&self, forwards: &[Forward]) -> Ticket {
        let mut batch = PublishBatch::default();
        let mut published = Published::default();
        // A frame mostly has messages of one publisher, and they of one topic.
        let (mut topic, mut route) = (None, Route::default());
        for forward in forwards {
            let message = &forward.message;
            if topic != Some(message.topic()) || !self.router().is_current(&route) {
                route = self.router().route(message.topic());
                topic = Some(message.topic());
            }
            match &forward.group {
                Some((name, filter)) => {
                    self.take_for_group(forward, (name, filter), &route, &mut batch);
                }
                None => self.to_sessions(message, &route, &mut batch, &mut published),
            }
        }
        let (ticket, stall) = self.finish_batch(&mut batch);
        if let Some(stall) = stall {
            stall.completion.finish();
        }
        ticket
    }

    fn to_sessions(
        &self,
        message: &Message,
        route: &Route,
        batch: &mut PublishBatch,
        published: &mut Published,
    ) {
        let sessions = |list: &crate::router::Targets| {
            let targets = list.as_slice().iter();
            targets
                .filter(|target| matches!(target, Target::Session { .. }))
                .cloned()
                .collect::<Vec<_>>()
        };
        match route.lists() {
            [] => {}
            [only] => {
                for target in only.as_slice() {
                    if matches!(target, Target::Session { .. }) {
                        self.to_target(message, target, batch, published);
                    }
                }
            }
            lists => {
                let here = Route::of(lists.iter().map(sessions));
                self.to_merged(message, &here, batch, published);
            }
        }
    }

    fn take_for_group(
        &self,
        forward: &Forward,
        (name, filter): (&str, &nightjar_mqtt::TopicFilter),
        route: &Route,
        batch: &mut PublishBatch,
    ) {
        let mut published = Published::default();
        let message = &forward.message;
        let Some(group) = find_group(route, name, filter) else {
            self.metrics().dropped(DropReason::SessionEnded, 1);
            return;
        };
        if let Some(member) = group.pick_here(message)
            && self.to_members(message, &group, &member, None, batch, &mut published)
        {
            return;
        }
        // The member left while the message was on its way.
        match group.another_node() {
            Some(node) if forward.hops < MAX_HOPS => {
                batch.forward(node, for_group(message, &group, forward.hops + 1));
            }
            _ => self.hold_or_drop(message, &group, DropReason::QueueFull, batch),
        }
    }

    /// Messages for a node that is gone: what was for a shared subscription goes to another member.
    pub fn hand_back_forwards(&self, forwards: Vec<Forward>) -> Ticket {
        let mut batch = PublishBatch::default();
        for forward in forwards {
            let Some((name, filter)) = &forward.group else {
                continue;
            };
            let route = self.router().route(forward.message.topic());
            match find_group(&route, name, filter) {
                Some(group) => self.to_group(
                    &forward.message,
                    &group,
                    None,
                    &mut batch,
                    &mut Published::default(),
                ),
                None => self.metrics().dropped(DropReason::SessionEnded, 1),
            }
        }
        let (ticket, stall) = self.finish_batch(&mut batch);
        if let Some(stall) = stall {
            stall.completion.finish();
        }
        ticket
    }
}
