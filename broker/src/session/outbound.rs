//! What is sent to the client: in-flight window, packet ids, QoS 1/2 state of the sender side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use nightjar_mqtt::{QoS, ReasonCode};

use super::seldom::Seldom;
use super::{Session, SessionError};
use crate::delivery::Delivery;
use crate::handle::SessionHandle;
use crate::shard::{Ack, AckKind, Opened};
use crate::ticket::{Progress, Ticket};
use crate::time::Timestamp;

/// Deliveries taken from the outbox at a time.
const TAKE: usize = 64;

#[derive(Debug)]
struct InFlight {
    id: u16,
    /// PUBREC came: PUBCOMP is awaited.
    released: bool,
    qos: QoS,
    /// Of a durable session.
    seq: u64,
    /// Of a transient session: kept for another member. With a retry interval of any: kept for the resend.
    delivery: Option<Delivery>,
    /// Kept by a shard, and acknowledged there.
    durable: bool,
    /// When it was last sent; kept with a retry interval only.
    sent_at: Timestamp,
}

/// A packet that is sent again in a live connection.
pub(super) enum Resend {
    Publish(Delivery, u16),
    Pubrel(u16),
}

#[derive(Debug)]
struct Release {
    id: u16,
    reason: ReasonCode,
    ticket: Ticket,
    open: bool,
}

#[derive(Debug)]
pub(super) struct Outbound {
    window: usize,
    /// QoS 0 does not overtake: nothing is taken while the window is full.
    in_order: bool,
    next_id: u16,
    in_flight: VecDeque<InFlight>,
    /// Counted from the first one, the ids rise along `in_flight`.
    rising: bool,
    ready: VecDeque<Delivery>,
    retained: Seldom<Delivery>,
    releases: Seldom<Release>,
    acks: Vec<Ack>,
    credit: u32,
    /// Milliseconds after which an unacknowledged packet is sent again in a live connection; 3.x only.
    retry: Option<u64>,
    resends: Seldom<u16>,
}

/// Packet id of a durable delivery: the same on every node and after every restart.
pub(super) const fn durable_id(seq: u64) -> u16 {
    (seq % 65_535) as u16 + 1
}

/// How far an id lies behind the first one; 0 is no id, and after 65,535 comes 1.
const fn ahead(first: u16, id: u16) -> u16 {
    id.wrapping_sub(first)
}

impl Outbound {
    pub fn new(
        window: u16,
        in_order: bool,
        retry: Option<u64>,
        opened: &Opened,
        now: Timestamp,
    ) -> Self {
        let mut outbound = Self {
            window: usize::from(window.max(1)),
            in_order,
            next_id: 1,
            in_flight: VecDeque::new(),
            rising: true,
            ready: VecDeque::new(),
            retained: Seldom::default(),
            releases: Seldom::default(),
            acks: Vec::new(),
            credit: 0,
            retry,
            resends: Seldom::default(),
        };
        // PUBREL is owed for what the client had received [MQTT-4.4.0-1].
        for &seq in &opened.released {
            let id = durable_id(seq);
            outbound.push(InFlight {
                id,
                released: true,
                qos: QoS::ExactlyOnce,
                seq,
                delivery: None,
                durable: true,
                sent_at: now,
            });
            outbound.releases.push_back(Release {
                id,
                reason: ReasonCode::Success,
                ticket: Ticket::DONE,
                open: false,
            });
        }
        outbound
    }

    pub fn free_window(&self) -> usize {
        self.window.saturating_sub(self.in_flight.len())
    }

    pub fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    pub const fn has_acks(&self) -> bool {
        !self.acks.is_empty() || self.credit > 0
    }

    pub fn take_acks(&mut self) -> (Vec<Ack>, u32) {
        (
            std::mem::take(&mut self.acks),
            std::mem::take(&mut self.credit),
        )
    }

    /// A durable delivery is over; its credit goes back.
    pub fn done(&mut self, ack: Ack) {
        self.acks.push(ack);
        self.credit += 1;
    }

    pub fn releases_wait_for(&mut self, ticket: &Ticket) {
        for release in self
            .releases
            .iter_mut()
            .rev()
            .take_while(|release| release.open)
        {
            release.open = false;
            release.ticket = ticket.clone();
        }
    }

    pub fn queue_retained(&mut self, delivery: Delivery) {
        self.retained.push_back(delivery);
    }

    /// Do retained messages wait to be sent?
    pub fn has_retained(&self) -> bool {
        !self.retained.is_empty()
    }

    pub fn next_release(
        &mut self,
        waker: &Waker,
    ) -> Result<Option<(u16, ReasonCode)>, SessionError> {
        let Some(first) = self.releases.front() else {
            return Ok(None);
        };
        if first.open {
            return Ok(None);
        }
        match first.ticket.poll(Some(waker)) {
            Progress::Pending => Ok(None),
            Progress::Failed(code) => Err(SessionError::NotCommitted(code)),
            Progress::Done => Ok(self
                .releases
                .pop_front()
                .map(|release| (release.id, release.reason))),
        }
    }

    /// The next delivery that the window admits.
    pub fn next_delivery(
        &mut self,
        handle: &Arc<SessionHandle>,
        epoch: u64,
        waker: &Waker,
    ) -> Option<Delivery> {
        let free = self.free_window();
        if let Some(first) = self.retained.front()
            && (first.qos == QoS::AtMostOnce || free > 0)
        {
            return self.retained.pop_front();
        }
        if self.in_order && free == 0 {
            handle.listen(epoch, waker);
            return None;
        }
        if self.ready.is_empty() {
            let take = if self.in_order { 1 } else { TAKE };
            handle.drain(epoch, &mut self.ready, take, free, waker);
            if self.ready.is_empty() && self.ready.capacity() > 0 {
                self.ready = VecDeque::new();
            }
        }
        let first = self.ready.front()?;
        if first.qos != QoS::AtMostOnce {
            if free == 0 {
                handle.listen(epoch, waker);
                return None;
            }
            if let Some(slot) = first.durable()
                && self.position(durable_id(slot.seq)).is_some()
            {
                handle.listen(epoch, waker);
                return None; // 65,535 sequences later: waits for the older one.
            }
        }
        self.ready.pop_front()
    }

    /// Takes a delivery into the window; its packet id, and whether DUP must be set.
    pub fn send(&mut self, delivery: &Delivery, now: Timestamp) -> (u16, bool) {
        if delivery.qos == QoS::AtMostOnce {
            return (0, false);
        }
        let (id, dup, seq, kept) = match delivery.durable() {
            Some(slot) => (
                durable_id(slot.seq),
                slot.dup,
                slot.seq,
                self.retry.map(|_| delivery.clone()),
            ),
            None => (self.free_id(), false, 0, Some(delivery.clone())),
        };
        self.push(InFlight {
            id,
            released: false,
            qos: delivery.qos,
            seq,
            delivery: kept,
            durable: delivery.durable().is_some(),
            sent_at: now,
        });
        (id, dup)
    }

    fn free_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = if id == u16::MAX { 1 } else { id + 1 };
            if self.position(id).is_none() {
                return id;
            }
        }
    }

    fn push(&mut self, entry: InFlight) {
        if let (Some(first), Some(last)) = (self.in_flight.front(), self.in_flight.back()) {
            self.rising &= ahead(first.id, entry.id) > ahead(first.id, last.id);
        } else {
            self.rising = true;
        }
        self.in_flight.push_back(entry);
    }

    /// Ids are given in turn and mostly acknowledged in turn: with thousands in flight this is no search.
    fn position(&self, id: u16) -> Option<usize> {
        let first = self.in_flight.front()?.id;
        if self.rising {
            return self
                .in_flight
                .binary_search_by_key(&ahead(first, id), |entry| ahead(first, entry.id))
                .ok();
        }
        self.in_flight.iter().position(|entry| entry.id == id)
    }

    fn remove(&mut self, at: usize) -> Option<InFlight> {
        let entry = self.in_flight.remove(at);
        if self.in_flight.is_empty() {
            self.rising = true;
            if self.in_flight.capacity() > 8 {
                self.in_flight = VecDeque::new();
            }
        }
        entry
    }

    pub fn forget(&mut self, id: u16) {
        if let Some(at) = self.position(id) {
            self.remove(at);
        }
    }

    fn release(&mut self, id: u16, reason: ReasonCode, open: bool) {
        self.releases.push_back(Release {
            id,
            reason,
            ticket: Ticket::DONE,
            open,
        });
    }

    /// When the oldest unacknowledged packet is to be sent again.
    pub fn retry_at(&self) -> Option<Timestamp> {
        let retry = self.retry?;
        let first = self.in_flight.iter().map(|entry| entry.sent_at).min()?;
        Some(first.plus_millis(retry))
    }

    /// Notes what is due to be sent again.
    pub fn retry(&mut self, now: Timestamp) {
        let Some(retry) = self.retry else { return };
        for entry in &mut self.in_flight {
            if entry.sent_at.plus_millis(retry) <= now {
                entry.sent_at = now;
                if !self.resends.contains(&entry.id) {
                    self.resends.push_back(entry.id);
                }
            }
        }
    }

    /// The next packet to send again: PUBLISH with DUP, or PUBREL.
    pub fn next_resend(&mut self) -> Option<Resend> {
        while let Some(id) = self.resends.pop_front() {
            let Some(at) = self.position(id) else {
                continue;
            };
            let entry = &self.in_flight[at];
            match &entry.delivery {
                _ if entry.released => return Some(Resend::Pubrel(id)),
                Some(delivery) => return Some(Resend::Publish(delivery.clone(), id)),
                None => {}
            }
        }
        None
    }

    /// What was taken from the outbox and not sent, of QoS 0, in order.
    pub fn take_unsent_qos0(&mut self) -> Vec<Delivery> {
        let unsent = self.ready.drain(..).chain(self.retained.take());
        unsent
            .filter(|delivery| delivery.qos == QoS::AtMostOnce)
            .collect()
    }

    /// A delivery could not be sent now: it is the next one again.
    pub fn put_back(&mut self, delivery: Delivery) {
        self.ready.push_front(delivery);
    }

    /// What the client has not acknowledged or not got, of a transient session.
    pub fn take_unacknowledged(&mut self) -> Vec<Delivery> {
        let sent = self
            .in_flight
            .drain(..)
            .filter(|entry| !entry.released && !entry.durable)
            .filter_map(|entry| entry.delivery);
        let mut left: Vec<Delivery> = sent.collect();
        left.extend(
            self.ready
                .drain(..)
                .filter(|delivery| delivery.durable().is_none()),
        );
        left
    }
}

impl Session {
    /// PUBACK came. False if the id is not in flight at QoS 1 (ignored [MQTT-4.3.2-3]).
    pub fn puback(&mut self, id: u16) -> bool {
        let outbound = &mut self.outbound;
        let Some(at) = outbound
            .position(id)
            .filter(|&at| outbound.in_flight[at].qos == QoS::AtLeastOnce)
        else {
            return false;
        };
        if let Some(entry) = outbound.remove(at)
            && entry.durable
        {
            outbound.done(Ack {
                seq: entry.seq,
                kind: AckKind::Done,
            });
        }
        true
    }

    /// PUBREC came: PUBREL is owed, also for an id that is not known (with 0x92) [MQTT-4.3.3-4]; a code of 0x80 or
    /// above ends the delivery.
    pub fn pubrec(&mut self, id: u16, reason: ReasonCode) {
        let outbound = &mut self.outbound;
        let Some(at) = outbound
            .position(id)
            .filter(|&at| outbound.in_flight[at].qos == QoS::ExactlyOnce)
        else {
            outbound.release(id, ReasonCode::PacketIdentifierNotFound, false);
            return;
        };
        if reason.is_error() {
            if let Some(entry) = outbound.remove(at)
                && entry.durable
            {
                outbound.done(Ack {
                    seq: entry.seq,
                    kind: AckKind::Done,
                });
            }
            return;
        }
        let entry = &mut outbound.in_flight[at];
        let repeated = std::mem::replace(&mut entry.released, true);
        entry.delivery = None;
        let seq = entry.seq;
        if entry.durable && !repeated {
            outbound.acks.push(Ack {
                seq,
                kind: AckKind::Received,
            });
            outbound.release(id, ReasonCode::Success, true);
        } else {
            outbound.release(id, ReasonCode::Success, false);
        }
    }

    /// PUBCOMP came. False if the id is not in flight at QoS 2.
    pub fn pubcomp(&mut self, id: u16) -> bool {
        let outbound = &mut self.outbound;
        let Some(at) = outbound
            .position(id)
            .filter(|&at| outbound.in_flight[at].qos == QoS::ExactlyOnce)
        else {
            return false;
        };
        if let Some(entry) = outbound.remove(at)
            && entry.durable
        {
            outbound.done(Ack {
                seq: entry.seq,
                kind: AckKind::Done,
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use nightjar_mqtt::TopicName;
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::{DeliveryExtra, DurableSlot};
    use crate::message::{Message, MessageHead};

    fn delivery(seq: Option<u64>) -> Delivery {
        let head = MessageHead {
            topic: TopicName::from_validated("t"),
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: None,
            received_at: Timestamp(0),
            expires_at: None,
            properties: None,
        };
        let mut delivery = Delivery::new(Message::new(head, b""), QoS::AtLeastOnce, false, 0);
        if let Some(seq) = seq {
            delivery.extra = Some(Box::new(DeliveryExtra {
                durable: Some(DurableSlot { seq, dup: false }),
                ..DeliveryExtra::default()
            }));
        }
        delivery
    }

    proptest! {
        /// However acknowledgements come, ids are unique and found, also where they begin again at 1.
        #[test]
        fn ids_are_unique_and_found(
            start in prop_oneof![Just(1u16), 65_500u16..=65_535],
            base in prop_oneof![Just(0u64), 65_500u64..65_600],
            durable in any::<bool>(),
            steps in prop::collection::vec(prop_oneof![3 => Just(None), 2 => any::<prop::sample::Index>().prop_map(Some)], 1..300),
        ) {
            let mut outbound = Outbound::new(u16::MAX, false, None, &Opened::default(), Timestamp(0));
            outbound.next_id = start;
            let mut seq = base;
            let mut open: Vec<u16> = Vec::new();
            for step in steps {
                match step {
                    None => {
                        let (id, _) = outbound.send(&delivery(durable.then_some(seq)), Timestamp(0));
                        seq += 1;
                        prop_assert!(id != 0 && !open.contains(&id));
                        open.push(id);
                    }
                    Some(at) if !open.is_empty() => {
                        let id = open.remove(at.index(open.len()));
                        outbound.forget(id);
                        prop_assert_eq!(outbound.position(id), None);
                    }
                    Some(_) => {}
                }
                prop_assert!(outbound.rising, "found without a search");
                for (at, id) in open.iter().enumerate() {
                    prop_assert_eq!(outbound.position(*id), Some(at));
                }
            }
        }
    }

    #[test]
    fn ids_that_came_in_another_order_are_found_too() {
        let released = vec![9, 4, 70_000];
        let opened = Opened {
            released,
            ..Opened::default()
        };
        let mut outbound = Outbound::new(10, false, None, &opened, Timestamp(0));
        assert!(!outbound.rising);
        for (at, seq) in [9, 4, 70_000].into_iter().enumerate() {
            assert_eq!(outbound.position(durable_id(seq)), Some(at));
        }
        assert_eq!(outbound.position(77), None);
        for seq in [9, 4, 70_000] {
            outbound.forget(durable_id(seq));
        }
        assert!(outbound.rising);
    }
}
