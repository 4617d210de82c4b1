//! Runs: messages of QoS 0 that one read brought one behind the other for the same receivers.
//!
//! A message on its way to many costs a lock for each receiver, and each receiver's queue comes from far in memory. The
//! messages of a run are kept back until something else is published, the run is long enough or the batch ends; then each
//! receiver is visited once and takes all of them. Nobody sees a difference: receivers are woken at the end of the batch in
//! either case, and what one of them gets has the order of publication.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::Broker;
use crate::message::Message;
use crate::publish::{PublishBatch, Published};
use crate::router::{Route, Target, Targets};
use crate::subscription::Subscription;

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

/// Receivers from which on messages are kept back: fewer are visited again for less than the keeping costs.
const MIN_RECEIVERS: usize = 8;
/// Most messages of a run: so long a receiver's queue is locked at most.
const MAX_MESSAGES: usize = 64;
/// Most bytes of a run, as queues count them.
const MAX_BYTES: usize = 256 * 1024;

/// Messages that go to the same receivers and were given to none of them yet.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Packets follow whose messages may belong to it, too.
    pub grows: bool,
    receivers: Option<Arc<Vec<Target>>>,
    messages: SmallVec<[Message; 16]>,
    /// What the messages cost the queue of a receiver.
    bytes: usize,
}

impl Run {
    /// Is nothing kept back?
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.receivers.is_none()
    }

    /// Does it go to these receivers?
    #[inline]
    fn is_for(&self, receivers: &Arc<Vec<Target>>) -> bool {
        (self.receivers.as_ref()).is_some_and(|have| Arc::ptr_eq(have, receivers))
    }

    fn has_room(&self, cost: usize) -> bool {
        self.messages.len() < MAX_MESSAGES && self.bytes + cost <= MAX_BYTES
    }
}

impl Broker {
    /// Publishes a message of QoS 0 whose fate nobody asks for: at once, or with the messages behind it if these go to the
    /// same receivers.
    #[inline]
    pub(crate) fn publish_gathered(
        &self,
        message: &Message,
        route: &Route,
        batch: &mut PublishBatch,
    ) {
        if let [Targets::Many(receivers)] = route.lists()
            && receivers.len() >= MIN_RECEIVERS
            && (batch.run.grows || batch.run.is_for(receivers))
        {
            self.gather(message, receivers, batch);
        } else {
            self.publish(message, route, batch);
        }
    }

    fn gather(&self, message: &Message, receivers: &Arc<Vec<Target>>, batch: &mut PublishBatch) {
        let cost = message.cost();
        if !batch.run.is_for(receivers) || !batch.run.has_room(cost) {
            self.finish_run(batch);
            batch.run.receivers = Some(receivers.clone());
        }
        if message.retain() {
            self.retain(message, batch);
        }
        batch.run.messages.push(message.clone());
        batch.run.bytes += cost;
    }

    /// Gives what is kept back to its receivers: before anything else is published, and before the batch ends.
    #[inline]
    pub(crate) fn finish_run(&self, batch: &mut PublishBatch) {
        if let Some(receivers) = batch.run.receivers.take() {
            self.deliver_run(&receivers, batch);
        }
    }

    fn deliver_run(&self, receivers: &[Target], batch: &mut PublishBatch) {
        let messages = std::mem::take(&mut batch.run.messages);
        let bytes = std::mem::take(&mut batch.run.bytes);
        // A shared subscription may choose somebody who is a receiver of his own, and whose messages would change places.
        let grouped = || {
            let mut targets = receivers.iter();
            targets.any(|target| matches!(target, Target::Group(_)))
        };
        if messages.len() == 1 || grouped() {
            for message in &messages {
                self.to_all(message, receivers, batch);
            }
            return;
        }
        let mut others = Vec::new();
        for target in receivers {
            let Target::Session {
                options,
                id,
                handle,
            } = target
            else {
                for message in &messages {
                    self.to_target(message, target, batch, &mut Published::default());
                }
                continue;
            };
            let sub = Subscription {
                options: *options,
                id: *id,
            };
            let waker = handle.push_run(&messages, bytes, sub, &mut others);
            batch.wake(waker);
            for (at, pushed) in others.drain(..) {
                let message = &messages[at];
                self.note_pushed(message, handle, &pushed, batch, &mut Published::default());
            }
        }
    }

    fn to_all(&self, message: &Message, receivers: &[Target], batch: &mut PublishBatch) {
        let mut published = Published::default();
        for target in receivers {
            self.to_target(message, target, batch, &mut published);
        }
    }
}
