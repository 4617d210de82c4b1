//! Messages to a client: one at a time, each behind the REGISTER of its topic (MQTT-SN sections 6.10 and 6.13).

use std::sync::atomic::Ordering;
use std::task::Waker;

use nightjar_broker::{
    AckPacket, Counter, Delivery, DropReason, Progress, Ticket, Timestamp, Transmit,
};
use nightjar_mqtt::TopicName;
use nightjar_mqttsn::{Message, PubAck, Publish, PublishTopic, QoS, RegAck, Register, ReturnCode};

use super::counters::Counted;
use super::front;
use super::gateway::Cx;
use super::link::Link;
use super::live::{Air, Live, Over};
use super::topics::Full;

/// Messages sent in one go before others have their turn.
const TURN: u32 = 256;
/// A client that answers "congestion" is left in peace so long, in milliseconds.
const CONGESTED_MS: u64 = 60_000;
/// Longest time between two repeats, in milliseconds.
const MAX_RETRY_MS: u64 = 60_000;
/// Times that one message's topic is registered anew because the client does not know the id.
const MAX_CORRECTIONS: u8 = 3;
/// Topics refused by a client that are remembered.
const MAX_MUTED: usize = 64;

/// A delivery that is taken from the queue and not done.
#[derive(Debug)]
pub(super) struct Held {
    delivery: Delivery,
    /// Packet id of the session; 0 for QoS 0.
    id: u16,
    dup: bool,
    corrections: u8,
}

/// Repeats of what is open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    tries: u8,
    due: Timestamp,
}

/// What is open with the client, of our messages: one at a time.
#[derive(Debug)]
pub(super) enum Exchange {
    Idle,
    /// The address is not validated and takes no more: waits until it sends.
    Blocked(Box<Held>),
    Register {
        topic_id: u16,
        msg_id: u16,
        name: TopicName,
        /// The id is kept first: given away again after a crash it would stand for two topics.
        ticket: Option<Ticket>,
        /// The topic could be sent without: REGISTER only makes the client answer.
        validating: bool,
        held: Box<Held>,
        retry: Retry,
    },
    Publish {
        msg_id: u16,
        topic: PublishTopic,
        held: Box<Held>,
        retry: Retry,
    },
    Release {
        msg_id: u16,
        id: u16,
        retry: Retry,
    },
}

impl Exchange {
    /// When it is to be repeated.
    pub const fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Register {
                ticket: None,
                retry,
                ..
            }
            | Self::Publish { retry, .. }
            | Self::Release { retry, .. } => Some(retry.due),
            _ => None,
        }
    }

    pub const fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked(_))
    }

    /// Packet id of a message that was sent and not acknowledged.
    pub fn on_air(&self) -> Option<u16> {
        match self {
            Self::Publish { held, .. } => Some(held.id),
            _ => None,
        }
    }

    /// A delivery that was never sent.
    pub fn take_held(&mut self) -> Option<Delivery> {
        match std::mem::replace(self, Self::Idle) {
            Self::Blocked(held) | Self::Register { held, .. } => Some(held.delivery),
            _ => None,
        }
    }
}

impl Live {
    /// The MsgId that stands for a packet id: an offset that only the client and we know, so that an answer shows that the
    /// client receives where we send. The same message has the same MsgId whenever it is sent again, on whichever node.
    const fn wire_id(&self, id: u16) -> u16 {
        ((id as u32 - 1 + self.offset as u32) % 65_535) as u16 + 1
    }

    fn first_due(&self, cx: &mut Cx<'_>) -> Retry {
        Retry {
            tries: 0,
            due: retry_at(cx, 0),
        }
    }

    /// Sends what can be sent; true if there is nothing more.
    pub fn flow(&mut self, link: &mut Link, cx: &mut Cx<'_>, waker: &Waker) -> Result<bool, Over> {
        for _ in 0..TURN {
            match &mut self.exchange {
                Exchange::Idle => {}
                Exchange::Blocked(_) => {
                    let Exchange::Blocked(held) =
                        std::mem::replace(&mut self.exchange, Exchange::Idle)
                    else {
                        return Ok(false);
                    };
                    self.deliver(link, cx, held);
                    if self.exchange.is_blocked() {
                        return Ok(false);
                    }
                    continue;
                }
                Exchange::Register {
                    ticket: Some(ticket),
                    ..
                } => {
                    match ticket.poll(Some(waker)) {
                        Progress::Pending => return Ok(false),
                        Progress::Failed(_) => return Err(Over::Broken),
                        Progress::Done => {}
                    }
                    self.send_register(link, cx);
                    return Ok(false);
                }
                _ => return Ok(false),
            }
            if let Some(awake) = &self.awake {
                let limit = cx.settings().wake_limit;
                if !awake.flush || limit > 0 && awake.sent >= limit {
                    return Ok(true);
                }
            }
            if !link.reachable {
                return Ok(false);
            }
            let next = self.session.next_transmit(cx.now, waker);
            match next.map_err(|_| Over::Broken)? {
                None => return Ok(true),
                Some(Transmit::Publish { delivery, id, dup }) => {
                    let dup = dup && self.was_on_air(id);
                    if !dup && id != 0 {
                        // What comes behind the first that is new is new.
                        self.air = Air::Known(None);
                    }
                    self.deliver(
                        link,
                        cx,
                        Box::new(Held {
                            delivery,
                            id,
                            dup,
                            corrections: 0,
                        }),
                    );
                }
                Some(Transmit::Ack {
                    packet: AckPacket::Pubrel,
                    id,
                    ..
                }) => {
                    let msg_id = self.wire_id(id);
                    let retry = self.first_due(cx);
                    self.exchange = Exchange::Release { msg_id, id, retry };
                    link.send(cx, Message::PubRel { msg_id });
                    return Ok(false);
                }
                Some(other) => self.answer(link, cx, other),
            }
            if self.session.has_unsubmitted() {
                // What could not be sent counts as acknowledged: its record goes, and the next one comes.
                self.session
                    .finish_batch(&mut nightjar_broker::Session::new_batch(), cx.now);
            }
        }
        waker.wake_by_ref();
        Ok(false)
    }

    /// Was this message sent by the last connection? Asked once: what comes behind it was not.
    fn was_on_air(&mut self, id: u16) -> bool {
        if id == 0 {
            return false;
        }
        match self.air {
            Air::Unknown => true,
            Air::Known(air) => {
                self.air = Air::Known(None);
                air == Some(id)
            }
        }
    }

    fn deliver(&mut self, link: &mut Link, cx: &mut Cx<'_>, held: Box<Held>) {
        if held.delivery.checked && !self.session.may_deliver(&held.delivery, &mut self.acl) {
            self.session
                .not_sent(&held.delivery, held.id, DropReason::Denied);
            return;
        }
        let full = held.delivery.message.topic().clone();
        let name = match &self.mountpoint {
            None => full,
            Some(mountpoint) => match full.strip_prefix(&**mountpoint) {
                Some(name) => TopicName::from_validated(name),
                None => full,
            },
        };
        if self.muted.contains(&name) {
            self.session
                .not_sent(&held.delivery, held.id, DropReason::Denied);
            return;
        }
        let known = self.topics.find(&name);
        let topic = match known {
            Some((id, true)) => {
                self.topics.touch(id);
                Some(PublishTopic::Normal(id))
            }
            _ => {
                let predefined = cx.settings().predefined.load();
                let id = predefined.id(self.session.handle().client_id(), &name);
                id.map(PublishTopic::Predefined)
                    .or_else(|| match *name.as_bytes() {
                        [a, b] if known.is_none() => Some(PublishTopic::Short([a, b])),
                        _ => None,
                    })
            }
        };
        let size = link.path.datagram_len(Message::Publish(wire_publish(
            &held,
            PublishTopic::Normal(0),
            0,
        )));
        if size > cx.settings().max_datagram {
            self.too_large(cx, &held);
            return;
        }
        match topic {
            Some(topic) => self.send_publish(link, cx, topic, name, held, size),
            None => self.register(link, cx, name, held, false),
        }
    }

    fn too_large(&mut self, cx: &Cx<'_>, held: &Held) {
        cx.count(Counted::TooLarge);
        tracing::debug!(
            client_id = &**self.session.handle().client_id(),
            topic = held.delivery.message.topic().as_str(),
            bytes = held.delivery.message.payload().len(),
            "message dropped: longer than max_datagram"
        );
        self.session
            .not_sent(&held.delivery, held.id, DropReason::TooLarge);
    }

    fn send_publish(
        &mut self,
        link: &mut Link,
        cx: &mut Cx<'_>,
        topic: PublishTopic,
        name: TopicName,
        held: Box<Held>,
        size: usize,
    ) {
        let unanswered = held.id == 0;
        if !link.may_send(cx, size) || unanswered && link.must_ask() {
            cx.count(Counted::Unvalidated);
            // A message of QoS 0 obtains no answer: REGISTER of its topic does.
            let can_ask = unanswered
                && matches!(topic, PublishTopic::Normal(_))
                && link.may_send(
                    cx,
                    link.path
                        .datagram_len(Message::Register(wire_register(0, 0, &name))),
                );
            if can_ask {
                self.register(link, cx, name, held, true);
            } else {
                self.exchange = Exchange::Blocked(held);
            }
            return;
        }
        if let Some(awake) = &mut self.awake {
            awake.sent += 1;
        }
        let broker = self.session.broker();
        broker.metrics().count(Counter::MessagesSent);
        self.session
            .handle()
            .counts
            .sent
            .fetch_add(1, Ordering::Relaxed);
        if cx.traced.is_some() {
            cx.about = Some(held.delivery.message.topic().clone());
        }
        if held.id == 0 {
            link.send(cx, Message::Publish(wire_publish(&held, topic, 0)));
            return;
        }
        let msg_id = self.wire_id(held.id);
        link.send(cx, Message::Publish(wire_publish(&held, topic, msg_id)));
        let retry = self.first_due(cx);
        self.exchange = Exchange::Publish {
            msg_id,
            topic,
            held,
            retry,
        };
    }

    /// Opens a REGISTER for the topic of a delivery.
    fn register(
        &mut self,
        link: &mut Link,
        cx: &mut Cx<'_>,
        name: TopicName,
        held: Box<Held>,
        validating: bool,
    ) {
        let size = link
            .path
            .datagram_len(Message::Register(wire_register(0, 0, &name)));
        if size > cx.settings().max_datagram {
            self.too_large(cx, &held);
            return;
        }
        let (topic_id, ticket) = match self.topics.find(&name) {
            Some((id, _)) => (id, Ticket::DONE),
            None => match self.give_id(cx, name.clone()) {
                Some(given) => given,
                None => {
                    self.too_large(cx, &held);
                    return;
                }
            },
        };
        let msg_id = (cx.random() % 65_535) as u16 + 1;
        let retry = self.first_due(cx);
        self.exchange = Exchange::Register {
            topic_id,
            msg_id,
            name,
            ticket: Some(ticket),
            validating,
            held,
            retry,
        };
    }

    /// A new id, in place of the one longest unused if there is no room.
    fn give_id(&mut self, cx: &Cx<'_>, name: TopicName) -> Option<(u16, Ticket)> {
        let max = cx.settings().max_topics;
        let mut changes = Vec::new();
        let id = loop {
            match self.topics.insert(name.clone(), false, max) {
                Ok(id) => break id,
                Err(Full) => {
                    // The number itself stands for another topic from now on.
                    let oldest = self.topics.oldest()?;
                    front::gone(&mut changes, oldest);
                    cx.count(Counted::TopicsReused);
                    if self.topics.replace(oldest, name.clone()) {
                        break oldest;
                    }
                }
            }
        };
        front::topic(&mut changes, id, &name);
        let ticket = self.keep(|out| out.append(&mut changes));
        Some((id, ticket))
    }

    fn send_register(&mut self, link: &mut Link, cx: &mut Cx<'_>) {
        let first = self.first_due(cx);
        if let Exchange::Register {
            topic_id,
            msg_id,
            name,
            ticket,
            retry,
            ..
        } = &mut self.exchange
        {
            *ticket = None;
            *retry = first;
            let message = Message::Register(wire_register(*topic_id, *msg_id, name));
            link.send(cx, message);
        }
    }

    /// REGACK came.
    pub fn on_regack(&mut self, link: &mut Link, cx: &mut Cx<'_>, ack: RegAck) {
        match &mut self.exchange {
            Exchange::Register {
                msg_id,
                ticket: None,
                retry,
                ..
            } if *msg_id == ack.msg_id => {
                link.validate(cx);
                if ack.return_code == ReturnCode::CONGESTION {
                    retry.due = cx.now.plus_millis(CONGESTED_MS);
                    return;
                }
            }
            _ => {
                cx.count(Counted::OutOfState);
                return;
            }
        }
        let Exchange::Register {
            topic_id,
            name,
            validating,
            held,
            ..
        } = std::mem::replace(&mut self.exchange, Exchange::Idle)
        else {
            return;
        };
        if ack.return_code.is_accepted() {
            self.topics.known(topic_id);
            self.deliver(link, cx, held);
            return;
        }
        cx.count(Counted::RegistersRefused);
        if validating {
            // It answered; the topic goes as it would have gone before.
            if self.topics.find(&name).is_some_and(|(_, known)| !known) {
                self.forget_topic(topic_id);
            }
            self.deliver(link, cx, held);
            return;
        }
        self.forget_topic(topic_id);
        if self.muted.len() >= MAX_MUTED {
            self.muted.remove(0);
        }
        self.muted.push(name);
        self.session
            .not_sent(&held.delivery, held.id, DropReason::Denied);
    }

    fn forget_topic(&mut self, id: u16) {
        if self.topics.remove(id).is_some() {
            let _ = self.keep(|out| front::gone(out, id));
        }
    }

    /// PUBACK came.
    pub fn on_puback(&mut self, link: &mut Link, cx: &mut Cx<'_>, ack: PubAck) {
        let open = match &mut self.exchange {
            Exchange::Publish { msg_id, retry, .. } if *msg_id == ack.msg_id => Some(retry),
            _ => None,
        };
        let Some(retry) = open else {
            if ack.return_code == ReturnCode::INVALID_TOPIC_ID && ack.msg_id == 0 {
                // A message of QoS 0 with an id that the client does not know: it is registered with the next one.
                self.forget_topic(ack.topic_id);
            } else {
                cx.count(Counted::OutOfState);
            }
            return;
        };
        link.validate(cx);
        if ack.return_code == ReturnCode::CONGESTION {
            retry.due = cx.now.plus_millis(CONGESTED_MS);
            return;
        }
        let Exchange::Publish {
            topic, mut held, ..
        } = std::mem::replace(&mut self.exchange, Exchange::Idle)
        else {
            return;
        };
        match ack.return_code {
            ReturnCode::ACCEPTED => {
                if !self.session.puback(held.id) {
                    // Of QoS 2 it acknowledges nothing but the end.
                    self.session
                        .not_sent(&held.delivery, held.id, DropReason::Denied);
                }
            }
            ReturnCode::INVALID_TOPIC_ID if held.corrections < MAX_CORRECTIONS => {
                held.corrections += 1;
                if let PublishTopic::Normal(id) = topic {
                    self.forget_topic(id);
                }
                let full = held.delivery.message.topic().as_str();
                let name = match &self.mountpoint {
                    Some(mountpoint) => full.strip_prefix(&**mountpoint).unwrap_or(full),
                    None => full,
                };
                let name = TopicName::from_validated(name);
                self.register(link, cx, name, held, false);
            }
            _ => {
                self.session
                    .not_sent(&held.delivery, held.id, DropReason::Denied);
            }
        }
        self.settle(cx);
    }

    /// PUBREC came.
    pub fn on_pubrec(&mut self, link: &mut Link, cx: &mut Cx<'_>, msg_id: u16) {
        match &self.exchange {
            Exchange::Publish {
                msg_id: open, held, ..
            } if *open == msg_id && held.delivery.qos == nightjar_mqtt::QoS::ExactlyOnce => {
                link.validate(cx);
                self.session
                    .pubrec(held.id, nightjar_mqtt::ReasonCode::Success);
                self.exchange = Exchange::Idle;
                self.settle(cx);
            }
            // The PUBREL was lost, or is on its way.
            Exchange::Release { msg_id: open, .. } if *open == msg_id => {
                link.validate(cx);
                link.send(cx, Message::PubRel { msg_id });
            }
            _ => cx.count(Counted::OutOfState),
        }
    }

    /// PUBCOMP came.
    pub fn on_pubcomp(&mut self, link: &mut Link, cx: &mut Cx<'_>, msg_id: u16) {
        match &self.exchange {
            Exchange::Release {
                msg_id: open, id, ..
            } if *open == msg_id => {
                link.validate(cx);
                self.session.pubcomp(*id);
                self.exchange = Exchange::Idle;
                self.settle(cx);
            }
            _ => cx.count(Counted::OutOfState),
        }
    }

    /// Submits what was acknowledged, so that the next message comes.
    fn settle(&mut self, cx: &Cx<'_>) {
        if self.session.has_unsubmitted() {
            self.session
                .finish_batch(&mut nightjar_broker::Session::new_batch(), cx.now);
        }
    }

    /// The client is somewhere else: what is open is sent there at once.
    pub fn resend_now(&mut self, link: &mut Link, cx: &mut Cx<'_>) {
        let now = cx.now;
        let retry = match &mut self.exchange {
            Exchange::Register {
                ticket: None,
                retry,
                ..
            }
            | Exchange::Publish { retry, .. }
            | Exchange::Release { retry, .. } => retry,
            _ => return,
        };
        *retry = Retry { tries: 0, due: now };
        // The first try at this address: it cannot be the last one.
        let _ = self.resend_due(link, cx);
    }

    /// Sends again what was not answered in time; after the last try the client is lost, or asleep again.
    pub fn resend_due(&mut self, link: &mut Link, cx: &mut Cx<'_>) -> Result<(), Over> {
        if self.exchange.due().is_none_or(|due| due > cx.now) {
            return Ok(());
        }
        let max = cx.settings().max_retries;
        let (Exchange::Register { retry, .. }
        | Exchange::Publish { retry, .. }
        | Exchange::Release { retry, .. }) = &mut self.exchange
        else {
            return Ok(());
        };
        if retry.tries >= max {
            return Err(if self.awake.is_some() {
                Over::GaveUp
            } else {
                Over::Lost(Counted::LostRetries)
            });
        }
        retry.tries += 1;
        retry.due = retry_at(cx, retry.tries);
        cx.count(Counted::Retransmissions);
        match &mut self.exchange {
            Exchange::Register {
                topic_id,
                msg_id,
                name,
                ..
            } => {
                let message = Message::Register(wire_register(*topic_id, *msg_id, name));
                send_again(link, cx, message);
            }
            Exchange::Publish {
                msg_id,
                topic,
                held,
                ..
            } => {
                held.dup = true;
                if cx.traced.is_some() {
                    cx.about = Some(held.delivery.message.topic().clone());
                }
                let message = Message::Publish(wire_publish(held, *topic, *msg_id));
                send_again(link, cx, message);
            }
            Exchange::Release { msg_id, .. } => {
                let message = Message::PubRel { msg_id: *msg_id };
                send_again(link, cx, message);
            }
            Exchange::Idle | Exchange::Blocked(_) => {}
        }
        Ok(())
    }
}

fn send_again(link: &mut Link, cx: &mut Cx<'_>, message: Message<'_>) {
    if link.may_send(cx, link.path.datagram_len(message)) {
        link.send(cx, message);
    } else {
        cx.count(Counted::Unvalidated);
    }
}

/// When the next try is due: the interval, doubled with each up to a minute, and a tenth more or less.
fn retry_at(cx: &mut Cx<'_>, tries: u8) -> Timestamp {
    let first = cx.settings().retry_interval_ms.max(1);
    let wait = first
        .saturating_mul(1 << tries.min(16))
        .min(MAX_RETRY_MS.max(first));
    let jitter = cx.random() % (wait / 5 + 1);
    cx.now.plus_millis(wait - wait / 10 + jitter)
}

fn wire_publish(held: &Held, topic: PublishTopic, msg_id: u16) -> Publish<'_> {
    Publish {
        dup: held.dup,
        qos: QoS::from(held.delivery.qos),
        retain: held.delivery.retain,
        topic,
        msg_id,
        data: held.delivery.message.payload(),
    }
}

const fn wire_register(topic_id: u16, msg_id: u16, topic_name: &str) -> Register<'_> {
    Register {
        topic_id,
        msg_id,
        topic_name,
    }
}
