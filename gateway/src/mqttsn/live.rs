//! A connected client, active or awake: its session, its topic ids and what is open with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use nightjar_broker::access::{BoxFuture, ClientInfo};
use nightjar_broker::acl::{AccessCache, Judged};
use nightjar_broker::limits::Allowance;
use nightjar_broker::settings::MqttSettings;
use nightjar_broker::shard::Will;
use nightjar_broker::{
    AckPacket, Message as BrokerMessage, Progress, Session, Signal, Ticket, Timestamp, TopicCache,
    Transmit,
};
use nightjar_mqtt::{ReasonCode, TopicFilter};
use nightjar_mqttsn::{Message, PubAck, QoS, RegAck, ReturnCode, SubAck};

use super::counters::Counted;
use super::downlink::Exchange;
use super::front;
use super::gateway::Cx;
use super::link::Link;
use super::topics::Topics;

/// Messages held behind one that waits for a verdict.
const MAX_HELD: usize = 16;
/// Acknowledgements of which the topic's octets are remembered: a client has one exchange open, a careless one a few.
const ACKS: usize = 4;

/// Why a client is not connected any more.
#[derive(Debug)]
pub(super) enum Over {
    /// Not heard, or no answer.
    Lost(Counted),
    /// A wake is done: PINGRESP, and back to sleep.
    Flushed,
    /// A wake without an answer: back to sleep, the messages stay.
    GaveUp,
    /// A message of a sleeper is taken and answered: back to sleep.
    Published,
    /// DISCONNECT without duration.
    Left,
    /// DISCONNECT with duration.
    Sleeps(u16),
    /// Another connection has the session.
    Displaced,
    /// The broker asks for the end.
    Closed(ReasonCode),
    /// What must be kept could not be.
    Broken,
}

/// What is known of the message that was on the air when the last connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Air {
    /// Nothing: the node was down. What may have been sent is sent with DUP.
    Unknown,
    /// The packet id of the one that was sent and not acknowledged.
    Known(Option<u16>),
}

/// A client between PINGREQ and PINGRESP.
#[derive(Debug)]
pub(super) struct Awake {
    /// Seconds it sleeps, tolerance included.
    pub seconds: u32,
    /// It asked for its messages; else it only publishes.
    pub flush: bool,
    /// Messages sent so far.
    pub sent: u32,
}

/// An answer that waits until what it promises is kept.
#[derive(Debug)]
pub(super) enum Answer {
    RegAck { topic_id: u16, msg_id: u16 },
    WillTopicResp,
    WillMsgResp,
}

/// A message that waits for a verdict; nothing behind it is handled before.
pub(super) struct Waiting {
    pub judged: BoxFuture<'static, Judged>,
    pub what: Judging,
}

/// Which message.
#[derive(Debug)]
pub(super) enum Judging {
    Publish {
        message: BrokerMessage,
        msg_id: u16,
        raw: u16,
        silent: bool,
    },
    Subscribe {
        msg_id: u16,
        topic_id: u16,
        name: Option<nightjar_mqtt::TopicName>,
        filter: TopicFilter,
        qos: nightjar_mqtt::QoS,
        again: bool,
    },
    WillTopic(Box<Will>),
}

/// What a client began and waits for.
#[derive(Default)]
pub(super) struct Pending {
    /// Messages behind one that waits for a verdict.
    pub held: VecDeque<Box<[u8]>>,
    /// Answers that wait for what they promise.
    pub answers: VecDeque<(Ticket, Answer)>,
    /// SUBSCRIBE under way: MsgId and the topic id for SUBACK.
    pub subscribing: VecDeque<(u16, u16)>,
}

/// A connected client.
pub(super) struct Live {
    pub session: Session,
    pub info: Arc<ClientInfo>,
    pub settings: Arc<MqttSettings>,
    pub mountpoint: Option<Arc<str>>,
    pub clean: bool,
    /// Milliseconds of silence, tolerance included, after which it is lost.
    pub keep_alive_ms: u64,
    pub last_heard: Timestamp,
    /// The will handshake was its last word: a repeated WILLMSG gets CONNACK again.
    pub after_will: bool,
    pub awake: Option<Awake>,
    /// It slept for so many seconds, and does on if nothing follows its CONNECT, which may be a copy; 0 if not.
    pub doubted: u32,
    pub topics: Topics,
    pub offset: u16,
    pub air: Air,
    /// What the stored front-end state says of it.
    noted: Air,
    pub exchange: Exchange,
    pub will: Option<Box<Will>>,
    pub cache: TopicCache,
    pub acl: AccessCache,
    /// Rates of what it sends; `None` where nothing limits it.
    pub allowance: Option<Box<Allowance>>,
    /// Topics that the client refused to have registered, until its next SUBSCRIBE.
    pub muted: Vec<nightjar_mqtt::TopicName>,
    pub waiting: Option<Box<Waiting>>,
    /// What is under way; nothing most of the time.
    pub pending: Option<Box<Pending>>,
    pub last_subscribe: (u16, u64),
    acks: [(u16, u16); ACKS],
    next_ack: u8,
    /// MsgId of a QoS 2 PUBLISH of a sleeper whose PUBREL is awaited.
    pub releasing: bool,
    /// QoS 2 messages taken last.
    pub taken: Option<Box<super::taken::Taken>>,
    /// Octets of the stored front-end state; 0: not written yet.
    front_len: usize,
}

/// What a [`Live`] is made from.
pub(super) struct Begin {
    pub session: Session,
    pub info: Arc<ClientInfo>,
    pub settings: Arc<MqttSettings>,
    pub mountpoint: Option<Arc<str>>,
    pub clean: bool,
    pub keep_alive_ms: u64,
    pub awake: Option<Awake>,
    pub air: Air,
    pub acl: AccessCache,
    pub present: bool,
}

impl Live {
    pub fn new(cx: &mut Cx<'_>, begin: Begin) -> Self {
        let mut session = begin.session;
        let found = session.take_front();
        let kept = if begin.present {
            front::read(&found.octets)
        } else {
            None
        };
        let front_len = if kept.is_some() {
            found.octets.len()
        } else {
            0
        };
        let kept = kept.unwrap_or_else(|| front::Kept::new(cx.random() as u16, begin.clean));
        let air = match begin.air {
            _ if !begin.present => Air::Known(None),
            Air::Unknown if found.parked > 0 && !found.cut && front_len > 0 => kept.air,
            air => air,
        };
        let limits = session.broker().limits();
        let allowance = if cx.settings().trusts(begin.info.peer.ip()) {
            limits.allowance_without_address(&begin.info, Instant::now())
        } else {
            limits.allowance(&begin.info, Instant::now())
        };
        Self {
            session,
            info: begin.info,
            settings: begin.settings,
            mountpoint: begin.mountpoint,
            clean: if begin.awake.is_some() {
                kept.clean
            } else {
                begin.clean
            },
            keep_alive_ms: begin.keep_alive_ms,
            last_heard: cx.now,
            after_will: false,
            awake: begin.awake,
            doubted: 0,
            topics: kept.topics,
            offset: kept.offset,
            noted: kept.air,
            air,
            exchange: Exchange::Idle,
            will: found.will,
            cache: TopicCache::default(),
            acl: begin.acl,
            allowance,
            muted: Vec::new(),
            waiting: None,
            pending: None,
            last_subscribe: (0, 0),
            acks: [(0, 0); ACKS],
            next_ack: 0,
            releasing: false,
            taken: None,
            front_len,
        }
    }

    /// Its CONNECT was a copy that the network made, and it asks for its messages.
    pub fn sleeps_on(&mut self) {
        self.awake = Some(Awake {
            seconds: std::mem::take(&mut self.doubted),
            flush: true,
            sent: 0,
        });
    }

    /// When something is due without a message of the client.
    pub fn deadline(&self, retry_ms: u64) -> Timestamp {
        let silence = match &self.awake {
            Some(_) => retry_ms.saturating_mul(3),
            None => self.keep_alive_ms,
        };
        let mut at = self.last_heard.plus_millis(silence);
        if let Some(due) = self.exchange.due() {
            at = at.min(due);
        }
        if let Some(due) = self.session.poll_timeout() {
            at = at.min(due);
        }
        // What it came in with (a token) is good until then.
        at.min(self.info.expires_at)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, link: &mut Link, cx: &mut Cx<'_>) -> Result<(), Over> {
        let retry_ms = cx.settings().retry_interval_ms;
        match &self.awake {
            Some(awake) => {
                if self.last_heard.plus_millis(retry_ms.saturating_mul(3)) <= cx.now {
                    return Err(if awake.flush {
                        Over::GaveUp
                    } else {
                        Over::Published
                    });
                }
            }
            None => {
                if self.last_heard.plus_millis(self.keep_alive_ms) <= cx.now {
                    return Err(Over::Lost(Counted::LostKeepAlive));
                }
            }
        }
        if self.info.expires_at <= cx.now {
            return Err(Over::Closed(ReasonCode::NotAuthorized));
        }
        if self.session.poll_timeout().is_some_and(|at| at <= cx.now) {
            self.session.handle_timeout(cx.now);
        }
        self.resend_due(link, cx)
    }

    /// Does everything that can be done without a word of the client.
    pub fn pump(&mut self, link: &mut Link, cx: &mut Cx<'_>, waker: &Waker) -> Result<(), Over> {
        match self.session.take_signal() {
            Some(Signal::TakenOver) => return Err(Over::Displaced),
            Some(Signal::Close(code)) => return Err(Over::Closed(code)),
            None => {}
        }
        self.session.poll_stall(waker);
        self.poll_waiting(link, cx, waker)?;
        self.poll_answers(link, cx, waker)?;
        while let Some(transmit) = self.session.next_answer(waker).map_err(|_| Over::Broken)? {
            self.answer(link, cx, transmit);
        }
        self.tidy();
        let idle = self.flow(link, cx, waker)?;
        if !idle {
            // An exchange is open: no message is asked for, and a signal must come through all the same.
            self.session.read_ahead(cx.now, waker);
            self.session.await_signal(waker);
        }
        if self.session.has_unsubmitted() {
            self.session.finish_batch(&mut Session::new_batch(), cx.now);
        }
        let quiet = self.waiting.is_none()
            && !self.owes_answers()
            && !self.session.owes()
            && (self.exchange.is_blocked() || !self.session.has_in_flight());
        match &self.awake {
            // An address that cannot be made to answer: the messages stay for the next time.
            Some(awake) if awake.flush && quiet && (idle || self.exchange.is_blocked()) => {
                return Err(Over::Flushed);
            }
            Some(awake) if awake.flush => {}
            Some(_) if quiet && !self.releasing => return Err(Over::Published),
            _ => {}
        }
        Ok(())
    }

    fn poll_waiting(
        &mut self,
        link: &mut Link,
        cx: &mut Cx<'_>,
        waker: &Waker,
    ) -> Result<(), Over> {
        while let Some(waiting) = &mut self.waiting {
            let mut task = std::task::Context::from_waker(waker);
            let Poll::Ready(judged) = waiting.judged.as_mut().poll(&mut task) else {
                return Ok(());
            };
            if let Some(waiting) = self.waiting.take() {
                self.judged(link, cx, waiting.what, judged)?;
            }
            while self.waiting.is_none()
                && let Some(pending) = &mut self.pending
                && let Some(datagram) = pending.held.pop_front()
            {
                if let Ok(frame) = nightjar_mqttsn::Frame::decode(&datagram) {
                    self.receive(link, cx, frame.message, &datagram)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps a message for after the one that waits.
    pub fn hold(&mut self, cx: &Cx<'_>, datagram: &[u8]) {
        let held = &mut self.pending.get_or_insert_default().held;
        if held.len() < MAX_HELD {
            held.push_back(datagram.into());
        } else {
            cx.count(Counted::Busy);
        }
    }

    /// An answer that waits until what it promises is kept.
    pub fn owe(&mut self, ticket: Ticket, answer: Answer) {
        let pending = self.pending.get_or_insert_default();
        pending.answers.push_back((ticket, answer));
    }

    fn owes_answers(&self) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| !pending.answers.is_empty())
    }

    /// Gives back the room of what is under way when nothing is.
    fn tidy(&mut self) {
        let done =
            |it: &Pending| it.held.is_empty() && it.answers.is_empty() && it.subscribing.is_empty();
        if self.pending.as_deref().is_some_and(done) {
            self.pending = None;
        }
    }

    fn poll_answers(&mut self, link: &Link, cx: &mut Cx<'_>, waker: &Waker) -> Result<(), Over> {
        while let Some(pending) = &mut self.pending
            && let Some((ticket, _)) = pending.answers.front()
        {
            match ticket.poll(Some(waker)) {
                Progress::Pending => return Ok(()),
                Progress::Failed(_) => return Err(Over::Broken),
                Progress::Done => {}
            }
            let Some((_, answer)) = pending.answers.pop_front() else {
                return Ok(());
            };
            let return_code = ReturnCode::ACCEPTED;
            let message = match answer {
                Answer::RegAck { topic_id, msg_id } => Message::RegAck(RegAck {
                    topic_id,
                    msg_id,
                    return_code,
                }),
                Answer::WillTopicResp => Message::WillTopicResp { return_code },
                Answer::WillMsgResp => Message::WillMsgResp { return_code },
            };
            link.answer(cx, message);
        }
        Ok(())
    }

    /// Notes the topic's octets of a PUBLISH for its PUBACK.
    pub fn note_ack(&mut self, msg_id: u16, raw: u16) {
        self.acks[usize::from(self.next_ack)] = (msg_id, raw);
        self.next_ack = (self.next_ack + 1) % ACKS as u8;
    }

    fn raw_of(&self, msg_id: u16) -> u16 {
        // The latest one counts: MsgIds come again.
        (1..=ACKS)
            .map(|back| self.acks[(usize::from(self.next_ack) + ACKS - back) % ACKS])
            .find(|(id, _)| *id == msg_id)
            .map_or(0, |(_, raw)| raw)
    }

    /// Sends an acknowledgement, SUBACK or UNSUBACK of the session.
    pub fn answer(&mut self, link: &Link, cx: &mut Cx<'_>, transmit: Transmit) {
        let message = match transmit {
            Transmit::Ack { packet, id, reason } => {
                let code = return_code(reason);
                match packet {
                    AckPacket::Pubrec if code.is_accepted() => {
                        self.releasing = self.awake.is_some();
                        Message::PubRec { msg_id: id }
                    }
                    AckPacket::Puback | AckPacket::Pubrec => Message::PubAck(PubAck {
                        topic_id: self.raw_of(id),
                        msg_id: id,
                        return_code: code,
                    }),
                    AckPacket::Pubcomp => {
                        self.releasing = false;
                        Message::PubComp { msg_id: id }
                    }
                    AckPacket::Pubrel => return,
                }
            }
            Transmit::Suback { id, codes } => {
                let topic_id = self.pending.as_mut().and_then(|pending| {
                    let open = &mut pending.subscribing;
                    let at = open.iter().position(|(msg_id, _)| *msg_id == id)?;
                    open.remove(at)
                });
                let topic_id = topic_id.map_or(0, |(_, topic_id)| topic_id);
                let code = codes.first().copied().unwrap_or(ReasonCode::Success);
                let refused = code.is_error();
                Message::SubAck(SubAck {
                    qos: match code {
                        ReasonCode::GrantedQoS1 => QoS::AtLeastOnce,
                        ReasonCode::GrantedQoS2 => QoS::ExactlyOnce,
                        _ => QoS::AtMostOnce,
                    },
                    topic_id: if refused { 0 } else { topic_id },
                    msg_id: id,
                    return_code: if refused {
                        return_code(code)
                    } else {
                        ReturnCode::ACCEPTED
                    },
                })
            }
            Transmit::Unsuback { id, .. } => Message::UnsubAck { msg_id: id },
            Transmit::Publish { .. } => return,
        };
        link.answer(cx, message);
    }

    /// Writes a change of the front-end state to the session; done when it is kept.
    pub fn keep(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        let mut octets = Vec::new();
        let whole = self.front_len == 0;
        if !whole {
            change(&mut octets);
            let names: usize = self.topics.iter().map(|(_, name)| name.len() + 5).sum();
            if self.front_len + octets.len() <= 2 * names + 512 {
                self.front_len += octets.len();
                return self.session.put_front(true, octets);
            }
        }
        self.noted = self.air();
        let octets = front::whole(self.offset, self.clean, &self.topics, self.noted);
        self.front_len = octets.len();
        self.session.put_front(false, octets)
    }

    /// Writes the head if nothing is written yet.
    pub fn keep_head(&mut self) {
        if self.front_len == 0 {
            let _ = self.keep(|_| {});
        }
    }

    /// The session before the client sleeps: what was taken and not sent goes back, what is on the air is noted.
    pub fn before_sleep(&mut self) -> Air {
        let air = self.air();
        if let Some(delivery) = self.exchange.take_held() {
            self.session.put_back(delivery);
        }
        if self.front_len == 0 {
            let _ = self.keep(|_| {});
        } else if air != self.noted {
            let _ = self.keep(|out| front::air(out, air));
            self.noted = air;
        }
        air
    }

    /// What is known of the message on the air, should this connection end: what was on the air before still is if it was
    /// not sent again.
    pub fn air(&self) -> Air {
        self.exchange
            .on_air()
            .map_or(self.air, |id| Air::Known(Some(id)))
    }

    /// The topic as the broker knows it.
    pub fn mounted(&self, topic: &str) -> Option<String> {
        self.mountpoint
            .as_ref()
            .map(|mountpoint| format!("{mountpoint}{topic}"))
    }
}

/// The return code for a reason code of the broker.
pub(super) const fn return_code(reason: ReasonCode) -> ReturnCode {
    match reason {
        ReasonCode::QuotaExceeded
        | ReasonCode::ServerBusy
        | ReasonCode::ServerUnavailable
        | ReasonCode::ConnectionRateExceeded
        | ReasonCode::ReceiveMaximumExceeded => ReturnCode::CONGESTION,
        reason if reason.is_error() => ReturnCode::NOT_SUPPORTED,
        _ => ReturnCode::ACCEPTED,
    }
}
