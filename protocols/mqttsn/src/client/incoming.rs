//! What each message of the gateway does.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use super::command::{Command, Request, Step, Topic};
use super::topics::Topics;
use super::{Client, Event, Received, State};
use crate::flags::QoS;
use crate::message::{Message, PubAck, Publish, RegAck, Register, SubAck};
use crate::types::{PublishTopic, ReturnCode};

/// A gateway that refuses an id right after giving it is not asked for ever.
const MAX_REGISTRATIONS: u32 = 3;
/// QoS 2 messages of the gateway of which late copies are known.
const RELEASED: usize = 4;

impl Client {
    pub(super) fn handle_message(&mut self, now: Instant, message: Message<'_>) {
        // Asleep without a request the radio is off; disconnected, only the answers to a request matter.
        if self.open.is_none() && self.state != State::Active {
            self.counters.unheard += 1;
            return;
        }
        if self.state == State::Awake
            && let Some(open) = &mut self.open
        {
            // The flush is the answer: PINGREQ is repeated only when nothing at all comes.
            open.repeats = 0;
            open.deadline = now + self.config.t_retry;
        }
        match message {
            Message::ConnAck { return_code } => self.handle_connack(now, return_code),
            Message::WillTopicReq => self.prompt(now, Step::WillTopic),
            Message::WillMsgReq => self.prompt(now, Step::WillMsg),
            Message::Register(register) => self.handle_register(now, register),
            Message::RegAck(ack) => self.handle_regack(now, ack),
            Message::Publish(publish) => self.handle_publish(now, publish),
            Message::PubAck(ack) => self.handle_puback(now, ack),
            Message::PubRec { msg_id } => {
                if let Some(open) = self
                    .open
                    .as_mut()
                    .filter(|open| open.is_publish(msg_id, QoS::ExactlyOnce))
                {
                    open.step = Step::PubRel;
                    open.repeats = 0;
                    self.send_open(now, false);
                }
            }
            Message::PubRel { msg_id } => {
                if let Some(hash) = self.unreleased.remove(&msg_id) {
                    self.released.truncate(RELEASED - 1);
                    self.released
                        .push_front((msg_id, hash, now + self.config.t_retry));
                }
                self.send(now, Message::PubComp { msg_id });
            }
            Message::PubComp { msg_id } => {
                let released = |open: &Request| open.msg_id == msg_id && open.step == Step::PubRel;
                self.complete(released, ReturnCode::ACCEPTED, None);
            }
            Message::SubAck(ack) => self.handle_suback(ack),
            Message::UnsubAck { msg_id } => {
                let asked = |open: &Request| {
                    open.msg_id == msg_id && matches!(open.command, Command::Unsubscribe { .. })
                };
                self.complete(asked, ReturnCode::ACCEPTED, None);
            }
            Message::WillTopicResp { return_code } => {
                self.complete(
                    |open| matches!(open.command, Command::WillTopicUpd(_)),
                    return_code,
                    None,
                );
            }
            Message::WillMsgResp { return_code } => {
                self.complete(
                    |open| matches!(open.command, Command::WillMsgUpd(_)),
                    return_code,
                    None,
                );
            }
            Message::PingReq { .. } => self.send(now, Message::PingResp),
            Message::PingResp => self.handle_pingresp(),
            Message::Disconnect { .. } => self.handle_disconnect(),
            // Of other gateways, or meant for gateways.
            Message::Advertise(_)
            | Message::SearchGw { .. }
            | Message::GwInfo(_)
            | Message::Connect(_)
            | Message::WillTopic(_)
            | Message::WillMsg { .. }
            | Message::Subscribe(_)
            | Message::Unsubscribe(_)
            | Message::WillTopicUpd(_)
            | Message::WillMsgUpd { .. } => self.counters.unheard += 1,
        }
    }

    /// Ends the open request if it is the one that was answered.
    fn complete(
        &mut self,
        answered: impl Fn(&Request) -> bool,
        code: ReturnCode,
        topic_id: Option<u16>,
    ) -> Option<Command> {
        let open = self.open.take_if(|open| answered(open))?;
        if code.is_accepted() {
            self.done(open.token, topic_id);
            return Some(open.command);
        }
        self.events.push_back(Event::Refused {
            token: open.token,
            code,
        });
        None
    }

    fn handle_connack(&mut self, now: Instant, code: ReturnCode) {
        let connecting = |open: &Request| matches!(open.command, Command::Connect(_));
        if !self.open.as_ref().is_some_and(connecting) {
            return;
        }
        let Some(Command::Connect(options)) = self.complete(connecting, code, None) else {
            self.state = State::Disconnected;
            return;
        };
        self.state = State::Active;
        // Nobody sleeps any more who could be woken.
        self.queue
            .retain(|(_, command)| !matches!(command, Command::Wake));
        self.keep_alive = std::time::Duration::from_secs(options.duration.into());
        if options.clean_session {
            self.topics = Topics::default();
            self.unreleased.clear();
            self.released.clear();
        }
        match self.suspended.take() {
            // The gateway has the message, and of a wiped session nothing comes after PUBREC.
            Some(cut_off) if options.clean_session && cut_off.step == Step::PubRel => {
                self.done(cut_off.token, None)
            }
            Some(cut_off) if options.clean_session => {
                self.queue.push_front((cut_off.token, cut_off.command))
            }
            Some(cut_off) => {
                self.open = Some(Request {
                    repeats: 0,
                    ..cut_off
                });
                self.send_open(now, true);
            }
            None => {}
        }
    }

    /// Answers WILLTOPICREQ and WILLMSGREQ. A repeat of an earlier prompt is answered without going back a step.
    fn prompt(&mut self, now: Instant, step: Step) {
        let Some(open) = self
            .open
            .as_mut()
            .filter(|open| matches!(open.command, Command::Connect(_)))
        else {
            return;
        };
        let before = open.step;
        open.step = step;
        open.repeats = 0;
        self.send_open(now, false);
        if let Some(open) = self.open.as_mut().filter(|_| before == Step::WillMsg) {
            open.step = before;
        }
    }

    fn handle_register(&mut self, now: Instant, register: Register<'_>) {
        let Register {
            topic_id,
            msg_id,
            topic_name,
        } = register;
        let return_code = self.config.register_code;
        if return_code.is_accepted() {
            self.topics.learn(topic_name, topic_id);
        }
        self.send(
            now,
            Message::RegAck(RegAck {
                topic_id,
                msg_id,
                return_code,
            }),
        );
    }

    fn handle_regack(&mut self, now: Instant, ack: RegAck) {
        let Some(open) = self.open.as_mut().filter(|open| open.msg_id == ack.msg_id) else {
            return;
        };
        let name = match &open.command {
            Command::Register(name) => name.clone(),
            Command::Publish {
                topic: Topic::Name(name),
                ..
            } if open.step == Step::Register => name.clone(),
            _ => return,
        };
        if ack.return_code.is_accepted() {
            self.topics.learn(&name, ack.topic_id);
            if open.step == Step::Register {
                open.step = Step::First;
                open.repeats = 0;
                let msg_id = self.take_msg_id();
                if let Some(open) = &mut self.open {
                    open.msg_id = msg_id;
                }
                self.send_open(now, false);
                self.finish_unacknowledged();
                return;
            }
        }
        self.complete(|_| true, ack.return_code, Some(ack.topic_id));
    }

    fn handle_publish(&mut self, now: Instant, publish: Publish<'_>) {
        let Publish {
            dup,
            qos,
            retain,
            topic,
            msg_id,
            data,
        } = publish;
        let topic_id = topic.raw();
        let topic = match topic {
            PublishTopic::Normal(id) => match self.topics.name(id) {
                Some(name) => Topic::Name(name.to_owned()),
                None => {
                    self.counters.unknown_topics += 1;
                    let return_code = ReturnCode::INVALID_TOPIC_ID;
                    self.send(
                        now,
                        Message::PubAck(PubAck {
                            topic_id,
                            msg_id,
                            return_code,
                        }),
                    );
                    return;
                }
            },
            PublishTopic::Predefined(id) => Topic::Predefined(id),
            PublishTopic::Short(name) => Topic::Short(name),
        };
        if qos == QoS::ExactlyOnce && self.has_taken(now, msg_id, data) {
            self.counters.duplicates += 1;
            self.send(now, Message::PubRec { msg_id });
            return;
        }
        self.events.push_back(Event::Message(Received {
            topic,
            qos,
            retain,
            dup,
            data: data.to_vec(),
        }));
        match qos {
            QoS::AtLeastOnce => {
                let return_code = ReturnCode::ACCEPTED;
                self.send(
                    now,
                    Message::PubAck(PubAck {
                        topic_id,
                        msg_id,
                        return_code,
                    }),
                );
            }
            QoS::ExactlyOnce => self.send(now, Message::PubRec { msg_id }),
            QoS::MinusOne | QoS::AtMostOnce => {}
        }
    }

    /// Is this QoS 2 message one that was delivered before? If not, it is from now on.
    fn has_taken(&mut self, now: Instant, msg_id: u16, data: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let hash = hasher.finish();
        let late = |&(id, known, until): &(u16, u64, Instant)| {
            (id, known) == (msg_id, hash) && now < until
        };
        if self.released.iter().any(late) || self.unreleased.contains_key(&msg_id) {
            return true;
        }
        self.unreleased.insert(msg_id, hash);
        false
    }

    fn handle_puback(&mut self, now: Instant, ack: PubAck) {
        let PubAck {
            topic_id,
            msg_id,
            return_code,
        } = ack;
        let unknown_id = return_code == ReturnCode::INVALID_TOPIC_ID;
        let Some(open) = self
            .open
            .as_mut()
            .filter(|open| open.is_publish_with(msg_id))
        else {
            if !return_code.is_accepted() {
                if unknown_id {
                    self.topics.forget(topic_id);
                }
                self.events.push_back(Event::PublishRefused {
                    topic_id,
                    code: return_code,
                });
            }
            return;
        };
        let by_name = matches!(
            &open.command,
            Command::Publish {
                topic: Topic::Name(_),
                ..
            }
        );
        if unknown_id && by_name && open.registrations < MAX_REGISTRATIONS {
            open.registrations += 1;
            open.repeats = 0;
            open.step = Step::Register;
            self.topics.forget(topic_id);
            let msg_id = self.take_msg_id();
            if let Some(open) = &mut self.open {
                open.msg_id = msg_id;
            }
            self.send_open(now, false);
            return;
        }
        // PUBACK ends QoS 1, and QoS 2 only as a refusal.
        let ends = |open: &Request| {
            !return_code.is_accepted() || open.is_publish(msg_id, QoS::AtLeastOnce)
        };
        self.complete(ends, return_code, None);
    }

    fn handle_suback(&mut self, ack: SubAck) {
        let asked = |open: &Request| {
            open.msg_id == ack.msg_id && matches!(open.command, Command::Subscribe { .. })
        };
        let subscribed = self.complete(asked, ack.return_code, Some(ack.topic_id));
        if let Some(Command::Subscribe {
            topic: Topic::Name(name),
            ..
        }) = subscribed
            && ack.topic_id != 0
        {
            self.topics.learn(&name, ack.topic_id);
        }
    }

    fn handle_pingresp(&mut self) {
        let pinged = |open: &Request| matches!(open.command, Command::Ping | Command::Wake);
        if let Some(Command::Wake) = self.complete(pinged, ReturnCode::ACCEPTED, None) {
            self.state = State::Asleep;
            self.counters.wakes += 1;
        }
    }

    fn handle_disconnect(&mut self) {
        let asked =
            |open: &Request| matches!(open.command, Command::Sleep(_) | Command::Disconnect);
        match self.complete(asked, ReturnCode::ACCEPTED, None) {
            Some(Command::Sleep(_)) => self.state = State::Asleep,
            Some(_) => self.state = State::Disconnected,
            // While connecting, it belongs to the connection before.
            None if matches!(
                self.open,
                Some(Request {
                    command: Command::Connect(_),
                    ..
                })
            ) =>
            {
                self.counters.unheard += 1
            }
            None => self.lose(false),
        }
    }
}

impl Request {
    /// A PUBLISH with this MsgId that waits for PUBACK or PUBREC, or has had PUBREC.
    fn is_publish_with(&self, id: u16) -> bool {
        self.msg_id == id
            && self.step != Step::Register
            && matches!(self.command, Command::Publish { .. })
    }

    fn is_publish(&self, id: u16, level: QoS) -> bool {
        self.is_publish_with(id)
            && matches!(self.command, Command::Publish { qos, .. } if qos == level)
    }
}
