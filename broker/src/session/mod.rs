//! `Session`: one connection's side of a session, as a state machine without sockets, packets or a clock of its own.
//!
//! The front-end decodes, calls a method for each packet, and sends what [`Session::next_transmit`] yields. A
//! transient session lives here and in its [`SessionHandle`]; of a durable session this is a window on the record
//! that its shard keeps, and never the only copy of anything acknowledged.

mod deferred;
mod inbound;
mod outbound;
mod seldom;
mod subscribe;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use nightjar_mqtt::{QoS, ReasonCode};

use crate::broker::{Broker, OpenRequest};
use crate::delivery::Delivery;
use crate::handle::{DropReason, SessionHandle, Signal};
use crate::publish::{PublishBatch, Stall};
use crate::shard::{Ack, AckKind, Close, CloseKind, Opened, SessionEntry, Will};
use crate::ticket::{Progress, Ticket};
use crate::time::Timestamp;

use deferred::Deferred;
pub use inbound::Admission;
use inbound::Inbound;
use outbound::{Outbound, Resend};
use seldom::Seldom;
use subscribe::RetainedRead;

/// What the client did that ends its connection, with the code of DISCONNECT for 5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// More QoS 1/2 messages without acknowledgement than the announced Receive Maximum [MQTT-3.3.4-9].
    #[error("more than the announced Receive Maximum of {0} unacknowledged QoS 1/2 messages")]
    ReceiveMaximumExceeded(u16),
    /// More QoS 2 messages without PUBREL than `mqtt.max_awaiting_rel`.
    #[error("more than mqtt.max_awaiting_rel = {0} QoS 2 messages without PUBREL")]
    TooManyAwaitingRelease(usize),
    /// What had to be committed was not.
    #[error("the durable backend could not commit ({0:?})")]
    NotCommitted(ReasonCode),
}

impl SessionError {
    /// The code of DISCONNECT.
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::ReceiveMaximumExceeded(_) | Self::TooManyAwaitingRelease(_) => {
                ReasonCode::ReceiveMaximumExceeded
            }
            // That code exists in CONNACK only [MQTT-3.14.2-1].
            Self::NotCommitted(ReasonCode::ServerUnavailable) => ReasonCode::ServerBusy,
            Self::NotCommitted(code) => code,
        }
    }
}

/// The acknowledgements of a QoS 1/2 exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckPacket {
    /// PUBACK.
    Puback,
    /// PUBREC.
    Pubrec,
    /// PUBREL.
    Pubrel,
    /// PUBCOMP.
    Pubcomp,
}

/// The next thing to send to the client.
#[derive(Debug)]
pub enum Transmit {
    /// An acknowledgement.
    Ack {
        /// Which.
        packet: AckPacket,
        /// Packet identifier.
        id: u16,
        /// Reason code.
        reason: ReasonCode,
    },
    /// SUBACK.
    Suback {
        /// Packet identifier of the SUBSCRIBE.
        id: u16,
        /// One code for each topic filter.
        codes: Vec<ReasonCode>,
    },
    /// UNSUBACK.
    Unsuback {
        /// Packet identifier of the UNSUBSCRIBE.
        id: u16,
        /// One code for each topic filter.
        codes: Vec<ReasonCode>,
    },
    /// A message.
    Publish {
        /// The delivery.
        delivery: Delivery,
        /// Packet identifier; 0 for QoS 0.
        id: u16,
        /// Sent before, perhaps [MQTT-3.3.1-1].
        dup: bool,
    },
}

/// Something owed to the client, in the order of the packets that asked for it.
#[derive(Debug)]
struct Owed {
    transmit: OwedPacket,
    ticket: Ticket,
    /// Belongs to the read batch that is not finished yet.
    open: bool,
}

#[derive(Debug)]
enum OwedPacket {
    Ack {
        packet: AckPacket,
        id: u16,
        reason: ReasonCode,
    },
    Suback {
        id: u16,
        codes: Vec<ReasonCode>,
    },
    Unsuback {
        id: u16,
        codes: Vec<ReasonCode>,
    },
}

/// One connection's side of a session.
#[derive(Debug)]
pub struct Session {
    broker: Arc<Broker>,
    handle: Arc<SessionHandle>,
    epoch: u64,
    durable: bool,
    recorded: bool,
    /// What [`crate::DurableStore::interruptions`] said when the connection began.
    interruptions: u32,
    inbound: Inbound,
    outbound: Outbound,
    owed: VecDeque<Owed>,
    stall: Option<Box<(Stall, Timestamp)>>,
    reads: Vec<RetainedRead>,
    deferred: Seldom<Deferred>,
    front: Option<Box<Front>>,
    closed: bool,
}

/// What a supervised Open found that the front-end wants to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Front {
    /// What the front-end left with the session.
    pub octets: Box<[u8]>,
    /// The will in force.
    pub will: Option<Box<Will>>,
    /// The session was parked for so many seconds; 0 if not.
    pub parked: u32,
    /// The connection before could not leave what it had to.
    pub cut: bool,
    /// Epoch of the connection before; 0: there was none.
    pub before: u64,
}

impl Session {
    pub(crate) fn new(
        broker: Arc<Broker>,
        handle: Arc<SessionHandle>,
        request: &OpenRequest,
        opened: &Opened,
        (epoch, interruptions): (u64, u32),
        now: Timestamp,
    ) -> Self {
        let session = Self {
            inbound: Inbound::new(request, opened),
            outbound: Outbound::new(
                request.window,
                request.supervision.is_some(),
                request.retry_interval_ms,
                opened,
                now,
            ),
            durable: opened.durable,
            recorded: opened.recorded,
            interruptions,
            broker,
            handle,
            epoch,
            owed: VecDeque::new(),
            stall: None,
            reads: Vec::new(),
            deferred: Seldom::default(),
            front: request.supervision.map(|_| {
                Box::new(Front {
                    octets: opened.front.clone(),
                    will: opened.will.clone(),
                    parked: opened.parked,
                    cut: opened.cut,
                    before: opened.before,
                })
            }),
            closed: false,
        };
        if session.durable {
            let credit = session.outbound.free_window();
            session
                .broker
                .store()
                .grant(session.handle.client_id(), epoch, credit as u32, now);
        }
        session
    }

    /// The shared part.
    #[must_use]
    pub const fn handle(&self) -> &Arc<SessionHandle> {
        &self.handle
    }

    /// The broker it belongs to.
    #[must_use]
    pub const fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Is it kept by a shard?
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.durable
    }

    /// Did a supervised Open find a sleeper that is not lost? Ask before [`Self::take_front`].
    #[must_use]
    pub fn was_parked(&self) -> bool {
        self.front.as_ref().is_some_and(|front| front.parked > 0)
    }

    /// Epoch of the connection before a supervised Open; 0: there was none.
    #[must_use]
    pub fn before(&self) -> u64 {
        self.front.as_ref().map_or(0, |front| front.before)
    }

    /// What a supervised Open found; once.
    pub fn take_front(&mut self) -> Front {
        self.front
            .take()
            .map_or_else(Front::default, |front| *front)
    }

    /// Keeps octets of the front-end with the session: behind those that are there, or in their place.
    pub fn put_front(&self, append: bool, octets: Vec<u8>) -> Ticket {
        self.submit_own(SessionEntry::Front {
            client_id: self.handle.client_id().clone(),
            epoch: self.epoch,
            append,
            octets: octets.into(),
        })
    }

    /// The client changed its will (WILLTOPICUPD, WILLMSGUPD of MQTT-SN).
    pub fn set_will(&self, will: Option<Box<Will>>) -> Ticket {
        self.submit_own(SessionEntry::SetWill {
            client_id: self.handle.client_id().clone(),
            epoch: self.epoch,
            will,
        })
    }

    fn submit_own(&self, entry: SessionEntry) -> Ticket {
        let store = self.broker.store();
        let shard = store.shard_of(self.handle.client_id());
        store.submit(shard, vec![entry], None).ticket
    }

    /// What another part of the broker asks of this connection.
    #[must_use]
    pub fn take_signal(&self) -> Option<Signal> {
        self.handle.take_signal(self.epoch)
    }

    /// Wakes `waker` at the next signal: of a front-end that asks for no messages now.
    pub fn await_signal(&self, waker: &Waker) {
        self.handle.await_signal(self.epoch, waker);
    }

    /// Epoch of this connection: later ones of the client have higher ones.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Must the front-end stop reading? A slow receiver asks this publisher to wait, or too much is unacknowledged.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.stall.is_some() || self.owed.len() >= MAX_OWED || self.is_deferring()
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let stall = self.stall.as_ref().map(|stall| stall.1);
        [stall, self.outbound.retry_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A stall that lasted too long ends.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.stall.as_ref().is_some_and(|stall| stall.1 <= now)
            && let Some(stall) = self.stall.take()
        {
            stall.0.give_up(&self.broker);
        }
        self.outbound.retry(now);
    }

    /// Ends a read batch: submits what it published and acknowledged. Acknowledgements of this batch leave when that
    /// is committed.
    pub fn finish_batch(&mut self, batch: &mut PublishBatch, now: Timestamp) {
        // What is asked of the batch below is asked of all of it.
        self.broker.finish_run(batch);
        let (credit, ids) = self.gather_own(batch);
        let (mut ticket, mut stall) = (Ticket::DONE, None);
        let waits = !batch.is_empty();
        if waits {
            if ids || self.broker.mesh().is_some() {
                batch.sign(self.handle.client_id(), self.epoch);
            } else if self.recorded {
                batch.sign_retained(self.handle.client_id(), self.epoch);
            }
            let in_turn = ids && batch.goes_elsewhere() || !self.deferred.is_empty();
            (ticket, stall) = if in_turn {
                self.finish_in_turn(batch)
            } else {
                self.broker.finish_batch(batch)
            };
        }
        // Asked after the messages were routed: a node that stopped serving meanwhile, or whose lease is over, which a stopped
        // process hears of by nobody, may not know who subscribed since.
        if self.owed.back().is_some_and(|owed| owed.open) && self.is_interrupted() {
            ticket = Ticket::failed(ReasonCode::ServerUnavailable);
        }
        if waits {
            self.outbound.releases_wait_for(&ticket);
        }
        self.settle(&ticket);
        self.stall_on(stall, now);
        if credit > 0 {
            let store = self.broker.store();
            store.grant(self.handle.client_id(), self.epoch, credit, now);
        }
    }

    /// Did this node stop serving since the connection began?
    fn is_interrupted(&self) -> bool {
        let store = self.broker.store();
        store.interruptions() != self.interruptions || !store.is_serving()
    }

    fn stall_on(&mut self, stall: Option<Stall>, now: Timestamp) {
        if let Some(stall) = stall
            && self.stall.is_none()
        {
            self.broker.metrics().count(crate::Counter::Stalls);
            let until = now.plus_millis(self.broker.settings().backpressure_timeout_ms);
            self.stall = Some(Box::new((stall, until)));
        }
    }

    fn settle(&mut self, ticket: &Ticket) {
        for owed in self.owed.iter_mut().rev().take_while(|owed| owed.open) {
            owed.open = false;
            owed.ticket = ticket.clone();
        }
    }

    fn owe_ack(&mut self, packet: AckPacket, id: u16, reason: ReasonCode) {
        let transmit = OwedPacket::Ack { packet, id, reason };
        self.owed.push_back(Owed {
            transmit,
            ticket: Ticket::DONE,
            open: true,
        });
    }

    /// Puts what this client acknowledged and what QoS 2 ids it used into the batch; the credit to return, and whether
    /// there are such ids.
    fn gather_own(&mut self, batch: &mut PublishBatch) -> (u32, bool) {
        if !self.durable {
            return (0, false);
        }
        let client_id = self.handle.client_id();
        let (acks, credit) = self.outbound.take_acks();
        let (received, released) = self.inbound.take_changes();
        let epoch = self.epoch;
        let ids = !received.is_empty();
        let mut entries = Vec::new();
        if !received.is_empty() {
            entries.push(SessionEntry::Received {
                client_id: client_id.clone(),
                epoch,
                ids: received,
            });
        }
        if !released.is_empty() {
            entries.push(SessionEntry::Released {
                client_id: client_id.clone(),
                epoch,
                ids: released,
            });
        }
        if !acks.is_empty() {
            entries.push(SessionEntry::Acks {
                client_id: client_id.clone(),
                epoch,
                acks,
            });
        }
        if !entries.is_empty() {
            batch.prepend(self.broker.store().shard_of(client_id), entries);
        }
        (credit, ids)
    }

    /// The next thing to send, or `None` for now; then `waker` is called when there is more.
    ///
    /// # Errors
    /// [`SessionError::NotCommitted`]: the connection must end without the acknowledgement.
    pub fn next_transmit(
        &mut self,
        now: Timestamp,
        waker: &Waker,
    ) -> Result<Option<Transmit>, SessionError> {
        if let Some(transmit) = self.next_owed(waker)? {
            return Ok(Some(transmit));
        }
        if let Some((id, reason)) = self.outbound.next_release(waker)? {
            return Ok(Some(Transmit::Ack {
                packet: AckPacket::Pubrel,
                id,
                reason,
            }));
        }
        match self.outbound.next_resend() {
            Some(Resend::Pubrel(id)) => {
                return Ok(Some(Transmit::Ack {
                    packet: AckPacket::Pubrel,
                    id,
                    reason: ReasonCode::Success,
                }));
            }
            Some(Resend::Publish(delivery, id)) => {
                return Ok(Some(Transmit::Publish {
                    delivery,
                    id,
                    dup: true,
                }));
            }
            None => {}
        }
        if !self.reads.is_empty() {
            self.read_retained(now, waker);
        }
        loop {
            let Some(delivery) = self.outbound.next_delivery(&self.handle, self.epoch, waker)
            else {
                return Ok(None);
            };
            if delivery.message.is_expired(now) {
                self.discard(&delivery, DropReason::Expired);
                continue;
            }
            let (id, dup) = self.outbound.send(&delivery, now);
            return Ok(Some(Transmit::Publish { delivery, id, dup }));
        }
    }

    /// The next acknowledgement, SUBACK or UNSUBACK to send; no message and no PUBREL. For a front-end that sends one
    /// message at a time and must not take the next from the queue yet.
    ///
    /// # Errors
    /// As [`Self::next_transmit`].
    pub fn next_answer(&mut self, waker: &Waker) -> Result<Option<Transmit>, SessionError> {
        self.next_owed(waker)
    }

    /// Is anything owed to the client that [`Self::next_answer`] has not yielded yet, or a retained message unread?
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty() || !self.reads.is_empty()
    }

    /// Is a message of QoS 1 or 2 not yet acknowledged to its end?
    #[must_use]
    pub fn has_in_flight(&self) -> bool {
        self.outbound.has_in_flight()
    }

    fn next_owed(&mut self, waker: &Waker) -> Result<Option<Transmit>, SessionError> {
        if !self.deferred.is_empty() {
            self.submit_deferred(waker);
        }
        let Some(first) = self.owed.front() else {
            return Ok(None);
        };
        if first.open {
            return Ok(None);
        }
        if let Some(stall) = &self.stall {
            if stall.0.ticket().poll(Some(waker)) == Progress::Pending {
                return Ok(None);
            }
            self.stall = None;
        }
        match first.ticket.poll(Some(waker)) {
            Progress::Pending => return Ok(None),
            Progress::Failed(code) => return Err(SessionError::NotCommitted(code)),
            Progress::Done => {}
        }
        let Some(owed) = self.owed.pop_front() else {
            return Ok(None);
        };
        // A subscriber that has its SUBACK may never owe anything again: it should hold nothing for that.
        let is_suback = matches!(owed.transmit, OwedPacket::Suback { .. });
        if self.owed.is_empty() && (is_suback || self.owed.capacity() > 64) {
            self.owed = VecDeque::new();
        }
        Ok(Some(match owed.transmit {
            OwedPacket::Ack { packet, id, reason } => {
                self.inbound.acknowledged(packet, reason);
                Transmit::Ack { packet, id, reason }
            }
            OwedPacket::Suback { id, codes } => Transmit::Suback { id, codes },
            OwedPacket::Unsuback { id, codes } => Transmit::Unsuback { id, codes },
        }))
    }

    /// Ends a stall whose receivers have room again; `waker` is called when that happens.
    pub fn poll_stall(&mut self, waker: &Waker) {
        if self
            .stall
            .as_ref()
            .is_some_and(|stall| stall.0.ticket().poll(Some(waker)) != Progress::Pending)
        {
            self.stall = None;
        }
    }

    /// A delivery that [`Self::next_transmit`] yielded cannot be sent: it counts as acknowledged.
    pub fn not_sent(&mut self, delivery: &Delivery, id: u16, reason: DropReason) {
        if delivery.qos != QoS::AtMostOnce {
            self.outbound.forget(id);
        }
        self.discard(delivery, reason);
    }

    /// A QoS 0 delivery that [`Self::next_transmit`] yielded cannot be sent now: it is the next one again, also for the
    /// next connection if the session is parked. One of QoS 1 or 2 is in the queue until it is acknowledged.
    pub fn put_back(&mut self, delivery: Delivery) {
        if delivery.qos == QoS::AtMostOnce {
            self.outbound.put_back(delivery);
        }
    }

    fn discard(&mut self, delivery: &Delivery, reason: DropReason) {
        match delivery.durable() {
            Some(slot) => self.outbound.done(Ack {
                seq: slot.seq,
                kind: AckKind::Discarded(reason),
            }),
            None => self.broker.drop_of(&self.handle, &delivery.message, reason),
        }
    }

    /// Has the client acknowledged something that is not yet submitted? Then a batch must be finished.
    #[must_use]
    pub fn has_unsubmitted(&self) -> bool {
        self.outbound.has_acks() || self.inbound.has_changes()
    }

    /// Must this delivery be checked against deny rules, and what do they say?
    #[must_use]
    pub fn may_deliver(&self, delivery: &Delivery, cache: &mut crate::acl::AccessCache) -> bool {
        let topic = delivery.message.topic();
        let info = self.handle.info();
        let now = std::time::Instant::now();
        let filters: Vec<_> = self.handle.with_subs(|subs| {
            subs.iter()
                .filter(|(_, sub)| sub.options.checked())
                .map(|(filter, sub)| (filter.clone(), *sub))
                .collect()
        });
        filters.iter().any(|(filter, sub)| {
            let inner = filter.routing_filter();
            nightjar_mqtt::topic::matches(inner, topic)
                && self
                    .broker
                    .acl()
                    .may_deliver(&info, cache, inner, sub.options.qos(), topic, now)
        })
    }

    /// A newer connection of this client owns the session: this one goes without a word to the store.
    pub fn abandon(mut self) {
        self.closed = true;
        self.finish_reads(Timestamp::now());
        self.stall = None;
        self.broker.disconnected();
        self.handle.detach(self.epoch);
    }

    /// The connection is over. `expiry` is the Session Expiry Interval of DISCONNECT. Returns what must be committed.
    pub fn close(&mut self, kind: CloseKind, expiry: Option<u32>, now: Timestamp) -> Ticket {
        if std::mem::replace(&mut self.closed, true) {
            return Ticket::DONE;
        }
        let mut batch = PublishBatch::default();
        self.finish_batch(&mut batch, now);
        self.finish_reads(now);
        self.drop_deferred();
        if let Some(stall) = self.stall.take() {
            drop(stall);
        }
        self.broker.disconnected();
        self.handle
            .update_facts(|facts| facts.disconnected_at = now);
        let mut ticket = Ticket::DONE;
        if self.recorded {
            let client_id = self.handle.client_id().clone();
            let shard = self.broker.store().shard_of(&client_id);
            let close = Close {
                client_id,
                epoch: self.epoch,
                kind,
                expiry,
                now,
            };
            ticket = self
                .broker
                .store()
                .submit(shard, vec![SessionEntry::Close(close)], None)
                .ticket;
        }
        let unsent = match kind {
            CloseKind::Park(_) => self.outbound.take_unsent_qos0(),
            _ => Vec::new(),
        };
        let unacknowledged = self.outbound.take_unacknowledged();
        if self.durable {
            if self.handle.detach(self.epoch) && matches!(kind, CloseKind::Park(_)) {
                self.handle.put_back(unsent);
            }
        } else {
            self.broker.remove(&self.handle);
            let (back, lost): (Vec<_>, Vec<_>) = unacknowledged.into_iter().partition(|delivery| {
                delivery.qos == QoS::AtLeastOnce && delivery.group().is_some()
            });
            self.broker
                .metrics()
                .dropped(DropReason::SessionEnded, lost.len() as u64);
            self.broker.hand_back(&self.handle, back);
        }
        ticket
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A task that is dropped (runtime shutdown, panic) must not leave the client connected for ever.
        self.close(CloseKind::Abnormal, None, Timestamp::now());
    }
}

/// Packets owed before the front-end stops reading.
const MAX_OWED: usize = 1000;
