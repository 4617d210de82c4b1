//! The record of one session.

use std::sync::Arc;

use triomphe::Arc as Shared;

use super::entry::{Ack, AckKind, Will};
use super::queue::Queue;
use super::queued::{Body, Queued};
use crate::auth::Owner;
use crate::handle::DropReason;
use crate::lazy::Lazy;
use crate::settings::{QueueLimits, QueuePolicy};
use crate::subs::SubTable;
use crate::time::Timestamp;

/// Awake, and asleep again as soon as its connection ends, however it does.
pub(super) const AWAKE: Timestamp = Timestamp(Timestamp::NEVER.0 - 1);

/// What is kept of one session.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub client_id: Arc<str>,
    pub epoch: u64,
    pub connected: bool,
    /// The node that has, or had last, the connection; 0: there is one node only.
    pub node: u64,
    /// Expiry 0 at its Open and no record before: holds a will, and in a cluster
    /// the place of the connection, nothing else.
    pub transient: bool,
    pub expiry: u32,
    pub expires_at: Timestamp,
    pub will: Option<Box<Will>>,
    pub will_at: Timestamp,
    /// The deadline that stands in the shard's timer set.
    pub timer: Timestamp,
    /// To whom the session belongs.
    pub owner: Option<Box<Owner>>,
    pub subs: SubTable,
    pub queue: Lazy<Queue<Queued>>,
    /// What its queue counts, as [`Queued::cost`] says.
    pub bytes: usize,
    /// What of that is in memory.
    pub held: usize,
    pub next_seq: u64,
    pub received: Lazy<Vec<u16>>,
    pub limits: QueueLimits,
    pub window: u16,
    pub dropped: u64,
    /// One more than the highest sequence that a connection may have sent before the last one ended.
    pub maybe_sent: u64,
    /// The will is not due whatever happens: the client said goodbye, or it was published.
    pub disarmed: bool,
    /// A published will is kept for the next connection (MQTT-SN).
    pub keeps_will: bool,
    /// Seconds of silence after which the client is lost; 0 if nothing but its connection watches it.
    pub supervision: u32,
    /// When a parked client is lost; `NEVER` if it is not parked, [`AWAKE`] while it is awake for its messages.
    pub park_at: Timestamp,
    /// The last connection of a supervised client ended with its node: what was on the air then is not known.
    pub cut: bool,
    /// What the front-end left here.
    pub front: Box<[u8]>,
}

/// The record in a slot, to be changed. A copy of it that a frozen shard holds stays as it was.
pub(super) fn change(slot: &mut Option<Shared<Record>>) -> Option<&mut Record> {
    slot.as_mut().map(Shared::make_mut)
}

/// What a connection may have sent lies in the first so many windows of its queue: one window is in flight, and the
/// credit of acknowledgements that are not committed yet was given again.
const SENT_WINDOWS: usize = 4;

impl Record {
    pub fn new(client_id: Arc<str>, limits: QueueLimits, window: u16) -> Self {
        Self {
            client_id,
            epoch: 0,
            connected: true,
            node: 0,
            transient: false,
            expiry: 0,
            expires_at: Timestamp::NEVER,
            will: None,
            will_at: Timestamp::NEVER,
            timer: Timestamp::NEVER,
            owner: None,
            subs: SubTable::default(),
            queue: Lazy::default(),
            bytes: 0,
            held: 0,
            next_seq: 0,
            received: Lazy::default(),
            limits,
            window,
            dropped: 0,
            maybe_sent: 0,
            disarmed: false,
            keeps_will: false,
            supervision: 0,
            cut: false,
            park_at: Timestamp::NEVER,
            front: Box::default(),
        }
    }

    /// The will, which is due now; it is not due again before the next connection.
    pub fn take_due_will(&mut self) -> Option<Box<Will>> {
        if std::mem::replace(&mut self.disarmed, self.keeps_will) {
            return None;
        }
        if self.keeps_will {
            self.will.clone()
        } else {
            self.will.take()
        }
    }

    /// A connection ends: remembers how far it may have sent the queue.
    pub fn note_sent(&mut self) {
        let reach = self
            .queue
            .len()
            .min(usize::from(self.window) * SENT_WINDOWS);
        if let Some(last) = reach.checked_sub(1).and_then(|at| self.queue.get(at)) {
            self.maybe_sent = self.maybe_sent.max(last.seq() + 1);
        }
    }

    /// Would the policy `reject` refuse one more message of this cost, with `ahead` others before it?
    pub fn would_reject(&self, cost: usize, ahead: usize) -> bool {
        let window = if self.connected {
            usize::from(self.window)
        } else {
            0
        };
        self.limits.policy == QueuePolicy::Reject
            && (self.queue.len() + ahead >= self.limits.max_len + window
                || self.bytes + cost * (ahead + 1) > self.limits.max_bytes)
    }

    /// When something is due next.
    pub fn deadline(&self) -> Timestamp {
        self.expires_at.min(self.will_at).min(self.park_at)
    }

    /// Puts a message at the end of the queue under the session's limits. `Err` says what was dropped and whether
    /// the new message is among it.
    pub fn enqueue(&mut self, mut item: Queued) -> Enqueued {
        let cost = item.cost();
        let (room, reserved) = if self.connected {
            (
                self.limits.max_len + usize::from(self.window),
                usize::from(self.window),
            )
        } else {
            (self.limits.max_len, 0)
        };
        let mut dropped = 0;
        if self.queue.len() >= room || self.bytes + cost > self.limits.max_bytes {
            match self.limits.policy {
                QueuePolicy::DropNewest => return Enqueued::Dropped,
                QueuePolicy::Reject => return Enqueued::Rejected,
                QueuePolicy::DropOldest => {}
            }
            if cost > self.limits.max_bytes {
                return Enqueued::Dropped;
            }
            while self.queue.len() >= room || self.bytes + cost > self.limits.max_bytes {
                // What may be in flight stays, and so does what only waits for its PUBCOMP.
                let Some(at) = (reserved.min(self.queue.len())..self.queue.len())
                    .find(|&at| self.queue[at].has_body())
                else {
                    self.dropped += dropped + 1;
                    return if dropped == 0 {
                        Enqueued::Dropped
                    } else {
                        Enqueued::DroppedToo(dropped + 1)
                    };
                };
                self.remove_at(at);
                dropped += 1;
            }
        }
        item.set_seq(self.next_seq);
        self.next_seq += 1;
        self.bytes += cost;
        self.held += item.held();
        self.queue.push_back(item);
        self.dropped += dropped;
        if dropped == 0 {
            Enqueued::Queued
        } else {
            Enqueued::DroppedOldest(dropped)
        }
    }

    fn remove_at(&mut self, at: usize) -> Option<Queued> {
        let item = self.queue.remove(at)?;
        self.bytes = self.bytes.saturating_sub(item.cost());
        self.held = self.held.saturating_sub(item.held());
        if self.queue.is_empty() && (!self.connected || self.queue.capacity() > 64) {
            self.queue.shrink();
        }
        Some(item)
    }

    /// Place of a sequence in the queue. Sequences rise along the queue, with gaps where messages were removed.
    pub fn position(&self, seq: u64) -> Option<usize> {
        let at = self.queue.partition_point(|item| item.seq() < seq);
        let found = self.queue.get(at)?;
        (found.seq() == seq).then_some(at)
    }

    /// Applies one acknowledgement; says whether the sequence was known and why it went, if undelivered.
    pub fn ack(&mut self, ack: Ack) -> Option<DropReason> {
        let at = self.position(ack.seq)?;
        match ack.kind {
            AckKind::Done => {
                self.remove_at(at);
                None
            }
            AckKind::Received => {
                let item = self.queue.get_mut(at)?;
                self.bytes = self.bytes.saturating_sub(item.cost());
                self.held = self.held.saturating_sub(item.held());
                item.set_body(Body::Gone);
                None
            }
            AckKind::Discarded(reason) => {
                self.remove_at(at);
                self.dropped += 1;
                Some(reason)
            }
        }
    }

    /// More than half full: publishers into a connected session should wait.
    pub fn is_pressed(&self) -> bool {
        let len = self.queue.len().saturating_sub(usize::from(self.window));
        self.connected && (len * 2 > self.limits.max_len || self.bytes * 2 > self.limits.max_bytes)
    }
}

/// The outcome of [`Record::enqueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enqueued {
    Queued,
    /// Queued; so many older ones went.
    DroppedOldest(u64),
    /// The new one was dropped.
    Dropped,
    /// The new one was dropped with older ones; so many in all.
    DroppedToo(u64),
    Rejected,
}
