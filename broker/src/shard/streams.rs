//! Delivery streams: how a shard's leader hands queued messages to the connection that owns a session, within the
//! credit that connection gave. This state is the leader's own; no log keeps it.

use std::sync::Arc;
use std::task::Waker;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::entry::{Ack, AckKind};
use super::session::SessionShard;
use crate::delivery::{Delivery, DeliveryExtra, DurableSlot};
use crate::handle::{DropReason, SessionHandle};
use crate::lazy::Lazy;
use crate::ticket::Completion;
use crate::time::Timestamp;

/// The streams of one shard.
#[derive(Debug, Default)]
pub struct Streams {
    flows: HashMap<u32, Flow, RandomState>,
    /// Slots whose next message is on the disk.
    wanted: Vec<u32>,
}

#[derive(Debug)]
struct Flow {
    handle: Arc<SessionHandle>,
    epoch: u64,
    credit: u32,
    /// The next sequence to send.
    cursor: u64,
    /// One more than the highest sequence ever sent, by any connection of this session.
    sent: u64,
    stalled: Lazy<Vec<Arc<Completion>>>,
    gave_up: bool,
    /// Somebody reads its next messages from the disk.
    loading: bool,
}

impl Streams {
    /// A connection owns the session now: its queue is sent from the start, what was sent before with DUP.
    /// `maybe_sent` bounds what the connection before may have been sent by another node, or an earlier life of this one.
    pub fn open(
        &mut self,
        slot: u32,
        (before, epoch): (u64, u64),
        handle: Arc<SessionHandle>,
        maybe_sent: u64,
    ) {
        let sent = match self.flows.get(&slot) {
            Some(flow) if flow.epoch == before => flow.sent,
            _ => maybe_sent,
        };
        let flow = Flow {
            handle,
            epoch,
            credit: 0,
            cursor: 0,
            sent,
            stalled: Lazy::default(),
            gave_up: false,
            loading: false,
        };
        if let Some(old) = self.flows.insert(slot, flow) {
            old.stalled
                .iter()
                .for_each(|completion| completion.finish());
        }
    }

    /// The session of this slot ended.
    pub fn end(&mut self, slot: u32) {
        if let Some(flow) = self.flows.remove(&slot) {
            flow.stalled
                .iter()
                .for_each(|completion| completion.finish());
        }
    }

    /// The connection can take `credit` more.
    pub fn grant(&mut self, slot: u32, epoch: u64, credit: u32) {
        if let Some(flow) = self.flows.get_mut(&slot)
            && flow.epoch == epoch
        {
            flow.credit = flow.credit.saturating_add(credit);
        }
    }

    /// Makes a publisher wait until the queue of this slot is below half; false if there is room.
    pub fn stall(&mut self, shard: &SessionShard, slot: u32, completion: &Arc<Completion>) -> bool {
        let Some(flow) = self.flows.get_mut(&slot) else {
            return false;
        };
        if flow.gave_up || !shard.is_pressed(slot) || !flow.handle.is_connected() {
            return false;
        }
        flow.stalled.push(completion.clone());
        true
    }

    /// A stall lasted too long: nobody waits for those queues again before they are below half.
    pub fn give_up(&mut self, completion: &Arc<Completion>) {
        for flow in self.flows.values_mut() {
            if flow
                .stalled
                .iter()
                .any(|stalled| Arc::ptr_eq(stalled, completion))
            {
                flow.gave_up = true;
                let stalled = flow.stalled.take();
                stalled.iter().for_each(|completion| completion.finish());
            }
        }
    }

    /// Slots whose next message must come from the disk, each until [`Self::loaded`] is called for it.
    pub fn take_wanted(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.wanted)
    }

    /// Where a slot goes on and how much it may send; `None` if nothing is to be read for it.
    #[must_use]
    pub fn wants(&self, slot: u32) -> Option<(u64, u32)> {
        let flow = self.flows.get(&slot)?;
        (flow.loading && flow.credit > 0).then_some((flow.cursor, flow.credit))
    }

    /// What was to be read for a slot is in memory, or never will be.
    pub fn loaded(&mut self, slot: u32) {
        if let Some(flow) = self.flows.get_mut(&slot) {
            flow.loading = false;
        }
    }

    /// Sends what credit allows. Expired messages are not sent: they are returned as acknowledgements to apply. A
    /// message on the disk ends it: see [`Self::take_wanted`].
    pub fn pump(
        &mut self,
        shard: &SessionShard,
        slot: u32,
        now: Timestamp,
        wakers: &mut Vec<Waker>,
    ) -> Vec<Ack> {
        let mut expired = Vec::new();
        let Some(flow) = self.flows.get_mut(&slot) else {
            return expired;
        };
        if (flow.gave_up || !flow.stalled.is_empty()) && !shard.is_pressed(slot) {
            flow.gave_up = false;
            let stalled = flow.stalled.take();
            stalled.iter().for_each(|completion| completion.finish());
        }
        while flow.credit > 0 {
            let Some(item) = shard.next_from(slot, flow.cursor) else {
                break;
            };
            let Some(message) = item.message() else {
                if !std::mem::replace(&mut flow.loading, true) {
                    self.wanted.push(slot);
                }
                break;
            };
            flow.cursor = item.seq() + 1;
            if message.is_expired(now) {
                expired.push(Ack {
                    seq: item.seq(),
                    kind: AckKind::Discarded(DropReason::Expired),
                });
                continue;
            }
            let mut ids = item.sub_ids().iter().copied();
            let mut delivery = Delivery::new(
                message.clone(),
                item.qos(),
                item.retain(),
                ids.next().unwrap_or(0),
            );
            delivery.checked = item.checked();
            delivery.extra = Some(Box::new(DeliveryExtra {
                more_ids: ids.collect(),
                durable: Some(DurableSlot {
                    seq: item.seq(),
                    dup: item.seq() < flow.sent,
                }),
                group: None,
            }));
            let (taken, waker) = flow.handle.push_durable(flow.epoch, delivery);
            wakers.extend(waker);
            if !taken {
                flow.cursor = item.seq();
                break;
            }
            flow.sent = flow.sent.max(item.seq() + 1);
            flow.credit -= 1;
        }
        expired
    }
}
