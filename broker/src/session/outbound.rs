//! What is sent to the client: in-flight window, packet ids, QoS 1/2 state of the sender side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use nightjar_mqtt::{QoS, ReasonCode};

use super::{Session, SessionError};
use crate::delivery::Delivery;
use crate::handle::SessionHandle;
use crate::shard::{Ack, AckKind, Opened};
use crate::ticket::{Progress, Ticket};

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
    /// Of a transient session: kept for another member, or for a resend.
    delivery: Option<Delivery>,
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
    next_id: u16,
    in_flight: VecDeque<InFlight>,
    ready: VecDeque<Delivery>,
    retained: VecDeque<Delivery>,
    releases: VecDeque<Release>,
    acks: Vec<Ack>,
    credit: u32,
}

/// Packet id of a durable delivery: the same on every node and after every restart.
pub(super) const fn durable_id(seq: u64) -> u16 {
    (seq % 65_535) as u16 + 1
}

impl Outbound {
    pub fn new(window: u16, opened: &Opened) -> Self {
        let mut outbound = Self {
            window: usize::from(window.max(1)),
            next_id: 1,
            in_flight: VecDeque::new(),
            ready: VecDeque::new(),
            retained: VecDeque::new(),
            releases: VecDeque::new(),
            acks: Vec::new(),
            credit: 0,
        };
        // PUBREL is owed for what the client had received [MQTT-4.4.0-1].
        for &seq in &opened.released {
            let id = durable_id(seq);
            outbound.in_flight.push_back(InFlight {
                id,
                released: true,
                qos: QoS::ExactlyOnce,
                seq,
                delivery: None,
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
        waker: &Waker,
    ) -> Option<Delivery> {
        let free = self.free_window();
        if let Some(first) = self.retained.front()
            && (first.qos == QoS::AtMostOnce || free > 0)
        {
            let delivery = self.retained.pop_front();
            if self.retained.is_empty() {
                self.retained = VecDeque::new();
            }
            return delivery;
        }
        if self.ready.is_empty() {
            handle.drain(&mut self.ready, TAKE, free, waker);
            if self.ready.is_empty() && self.ready.capacity() > 0 {
                self.ready = VecDeque::new();
            }
        }
        let first = self.ready.front()?;
        if first.qos != QoS::AtMostOnce {
            if free == 0 {
                return None;
            }
            if let Some(slot) = first.durable()
                && self
                    .in_flight
                    .iter()
                    .any(|other| other.id == durable_id(slot.seq))
            {
                return None; // 65,535 sequences later: waits for the older one.
            }
        }
        self.ready.pop_front()
    }

    /// Takes a delivery into the window; its packet id, and whether DUP must be set.
    pub fn send(&mut self, delivery: &Delivery) -> (u16, bool) {
        if delivery.qos == QoS::AtMostOnce {
            return (0, false);
        }
        let (id, dup, seq, kept) = match delivery.durable() {
            Some(slot) => (durable_id(slot.seq), slot.dup, slot.seq, None),
            None => (self.free_id(), false, 0, Some(delivery.clone())),
        };
        self.in_flight.push_back(InFlight {
            id,
            released: false,
            qos: delivery.qos,
            seq,
            delivery: kept,
        });
        (id, dup)
    }

    fn free_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = if id == u16::MAX { 1 } else { id + 1 };
            if !self.in_flight.iter().any(|other| other.id == id) {
                return id;
            }
        }
    }

    fn position(&self, id: u16) -> Option<usize> {
        self.in_flight.iter().position(|entry| entry.id == id)
    }

    fn remove(&mut self, at: usize) -> Option<InFlight> {
        let entry = self.in_flight.remove(at);
        if self.in_flight.is_empty() && self.in_flight.capacity() > 8 {
            self.in_flight = VecDeque::new();
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

    /// What the client has not acknowledged or not got, of a transient session.
    pub fn take_unacknowledged(&mut self) -> Vec<Delivery> {
        let sent = self
            .in_flight
            .drain(..)
            .filter(|entry| !entry.released)
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
            && self.durable
            && entry.delivery.is_none()
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
        let durable = self.durable;
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
                && durable
                && entry.delivery.is_none()
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
        let kept = entry.delivery.take().is_some();
        let seq = entry.seq;
        if durable && !kept && !repeated {
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
        let durable = self.durable;
        let outbound = &mut self.outbound;
        let Some(at) = outbound
            .position(id)
            .filter(|&at| outbound.in_flight[at].qos == QoS::ExactlyOnce)
        else {
            return false;
        };
        if let Some(entry) = outbound.remove(at)
            && durable
        {
            outbound.done(Ack {
                seq: entry.seq,
                kind: AckKind::Done,
            });
        }
        true
    }
}
