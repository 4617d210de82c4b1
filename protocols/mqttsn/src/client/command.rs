//! Commands of the caller, and the request that one of them becomes.

use std::time::Instant;

use super::topics::Topics;
use super::{State, Token};
use crate::flags::QoS;
use crate::message::{Connect, Message, Publish, Register, Subscribe, Unsubscribe, WillTopic};
use crate::types::{FilterOrId, PROTOCOL_ID, PublishTopic};

/// A topic as a client's user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A topic name, or for SUBSCRIBE a filter.
    Name(String),
    /// A predefined topic id.
    Predefined(u16),
    /// A short topic name.
    Short([u8; 2]),
}

/// A will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// The message.
    pub message: Vec<u8>,
}

impl Will {
    fn topic(&self) -> WillTopic<'_> {
        WillTopic {
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
        }
    }
}

/// What a CONNECT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// CleanSession.
    pub clean_session: bool,
    /// Keep alive in seconds; 0 for none.
    pub duration: u16,
    /// True sets the Will flag: the gateway asks for the will.
    pub prompt_will: bool,
    /// The answer to that; `None` is the empty WILLTOPIC, which deletes the stored will.
    pub will: Option<Will>,
}

impl Default for ConnectOptions {
    /// A clean session, 60 s, no will.
    fn default() -> ConnectOptions {
        ConnectOptions {
            clean_session: true,
            duration: 60,
            prompt_will: false,
            will: None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Command {
    Connect(ConnectOptions),
    Register(String),
    Publish {
        topic: Topic,
        qos: QoS,
        retain: bool,
        data: Vec<u8>,
    },
    Subscribe {
        topic: Topic,
        qos: QoS,
    },
    Unsubscribe {
        topic: Topic,
    },
    WillTopicUpd(Option<Will>),
    WillMsgUpd(Vec<u8>),
    Ping,
    Sleep(u16),
    Wake,
    Disconnect,
}

impl Command {
    /// Whether the command can begin in this state.
    pub fn runs_in(&self, state: State, publish_asleep: bool) -> bool {
        match self {
            Command::Connect(_)
            | Command::Publish {
                qos: QoS::MinusOne, ..
            } => true,
            Command::Wake => state == State::Asleep,
            Command::Sleep(_) | Command::Disconnect => {
                matches!(state, State::Active | State::Asleep)
            }
            Command::Publish { .. } if publish_asleep => {
                matches!(state, State::Active | State::Asleep)
            }
            _ => state == State::Active,
        }
    }

    /// Whether it still has to be done when the connection is gone.
    pub fn outlives_the_connection(&self) -> bool {
        !matches!(
            self,
            Command::Connect(_)
                | Command::Ping
                | Command::Sleep(_)
                | Command::Wake
                | Command::Disconnect
        )
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A PUBLISH waits for the REGACK of its topic name.
    Register,
    /// The command's own message was sent.
    First,
    /// WILLTOPIC was sent.
    WillTopic,
    /// WILLMSG was sent.
    WillMsg,
    /// PUBREL was sent.
    PubRel,
}

/// The request under way.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub token: Token,
    pub command: Command,
    pub step: Step,
    pub msg_id: u16,
    /// Times that the message of this step was sent again.
    pub repeats: u32,
    /// Times that the topic was registered because the gateway did not know its id.
    pub registrations: u32,
    pub deadline: Instant,
}

impl Request {
    /// The message of the step.
    pub fn message<'a>(&'a self, client_id: &'a str, topics: &Topics, dup: bool) -> Message<'a> {
        let msg_id = self.msg_id;
        match &self.command {
            Command::Connect(options) => match self.step {
                Step::WillTopic => Message::WillTopic(options.will.as_ref().map(Will::topic)),
                Step::WillMsg => Message::WillMsg {
                    will_msg: options.will.as_ref().map_or(&[][..], |will| &will.message),
                },
                _ => Message::Connect(Connect {
                    will: options.prompt_will,
                    clean_session: options.clean_session,
                    protocol_id: PROTOCOL_ID,
                    duration: options.duration,
                    client_id,
                }),
            },
            Command::Register(topic_name) => Message::Register(Register {
                topic_id: 0,
                msg_id,
                topic_name,
            }),
            Command::Publish {
                topic,
                qos,
                retain,
                data,
            } => match (self.step, topic) {
                (Step::Register, Topic::Name(topic_name)) => Message::Register(Register {
                    topic_id: 0,
                    msg_id,
                    topic_name,
                }),
                (Step::PubRel, _) => Message::PubRel { msg_id },
                _ => {
                    let topic = match topic {
                        Topic::Name(name) => PublishTopic::Normal(topics.id(name).unwrap_or(0)),
                        Topic::Predefined(id) => PublishTopic::Predefined(*id),
                        Topic::Short(name) => PublishTopic::Short(*name),
                    };
                    let msg_id = if *qos > QoS::AtMostOnce { msg_id } else { 0 };
                    Message::Publish(Publish {
                        dup,
                        qos: *qos,
                        retain: *retain,
                        topic,
                        msg_id,
                        data,
                    })
                }
            },
            Command::Subscribe { topic, qos } => Message::Subscribe(Subscribe {
                dup,
                qos: *qos,
                msg_id,
                topic: filter(topic),
            }),
            Command::Unsubscribe { topic } => Message::Unsubscribe(Unsubscribe {
                msg_id,
                topic: filter(topic),
            }),
            Command::WillTopicUpd(will) => Message::WillTopicUpd(will.as_ref().map(Will::topic)),
            Command::WillMsgUpd(will_msg) => Message::WillMsgUpd { will_msg },
            Command::Ping => Message::PingReq { client_id: None },
            Command::Sleep(duration) => Message::Disconnect {
                duration: Some(*duration),
            },
            Command::Wake => Message::PingReq {
                client_id: Some(client_id),
            },
            Command::Disconnect => Message::Disconnect { duration: None },
        }
    }
}

fn filter(topic: &Topic) -> FilterOrId<'_> {
    match topic {
        Topic::Name(name) => FilterOrId::Name(name),
        Topic::Predefined(id) => FilterOrId::Predefined(*id),
        Topic::Short(name) => FilterOrId::Short(*name),
    }
}
