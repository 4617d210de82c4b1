//! Read batches that take packet ids of QoS 2, held back until the other nodes have their part of what they publish.
//!
//! A message whose packet id is known is not published again when its client sends it again. So an id must not be kept before
//! everybody who is not reached through the same log has the message: else it would be lost to them if this node failed in
//! between. When that happens now, or the connection ends meanwhile, neither the id nor what goes to shards is kept, and the
//! client sends all of it again: sessions that shards keep get it once; transient sessions, at this node too, and members of
//! shared subscriptions at other nodes perhaps once more.

use std::sync::Arc;
use std::task::Waker;

use nightjar_mqtt::ReasonCode;

use super::Session;
use crate::handle::DropReason;
use crate::publish::{PublishBatch, Stall};
use crate::ticket::{Completion, Progress, Ticket};
use crate::time::Timestamp;

/// Batches that are held back before the front-end stops reading.
const MAX_DEFERRED: usize = 64;

/// A read batch, but for what went to other nodes.
#[derive(Debug)]
pub(super) struct Deferred {
    /// Done when they have it.
    elsewhere: Ticket,
    batch: Box<PublishBatch>,
    /// What the acknowledgements wait for.
    done: Arc<Completion>,
}

impl Session {
    /// Is so much held back that the front-end must stop reading?
    pub(super) fn is_deferring(&self) -> bool {
        self.deferred.len() >= MAX_DEFERRED
    }

    /// Ends a batch in two steps. Shards get their part when the others have theirs, behind the batches before.
    pub(super) fn finish_in_turn(&mut self, batch: &mut PublishBatch) -> (Ticket, Option<Stall>) {
        let (elsewhere, stall) = self.broker.finish_elsewhere(batch);
        let done = Completion::new(1);
        self.deferred.push_back(Deferred {
            elsewhere,
            batch: Box::new(std::mem::take(batch)),
            done: done.clone(),
        });
        (Ticket::on(done), stall)
    }

    /// Submits what may go now. Behind a batch that failed nothing does: its client sends all of them again, in order.
    pub(super) fn submit_deferred(&mut self, waker: &Waker) {
        while let Some(first) = self.deferred.front() {
            match first.elsewhere.poll(Some(waker)) {
                Progress::Pending => return,
                Progress::Failed(code) => return first.done.complete(Err(code)),
                Progress::Done => {}
            }
            if self.is_interrupted() {
                return first.done.complete(Err(ReasonCode::ServerUnavailable));
            }
            let Some(mut first) = self.deferred.pop_front() else {
                return;
            };
            let (ticket, stall) = self.broker.finish_batch(&mut first.batch);
            first.done.follow(ticket);
            self.stall_on(stall, Timestamp::now());
        }
    }

    /// The connection ends. What is held back still was not acknowledged, and only sessions that stay hold anything back:
    /// the client sends it again.
    pub(super) fn drop_deferred(&mut self) {
        self.submit_deferred(Waker::noop());
        let lost: usize = self
            .deferred
            .take()
            .map(|it| it.batch.unacknowledged())
            .sum();
        if lost > 0 {
            let metrics = self.broker.metrics();
            metrics.dropped(DropReason::SessionEnded, lost as u64);
        }
    }
}
