//! The messages of section 5.4: one type for each that has more than one field, and [`Message`] over all of them.
//!
//! Fields that a message has but does not use ("not used" in the standard's tables) are not in its type.

mod connection;
mod discovery;
mod publish;
mod subscribe;

pub use connection::{Connect, WillTopic};
pub use discovery::{Advertise, GwInfo};
pub use publish::{PubAck, Publish, RegAck, Register};
pub use subscribe::{SubAck, Subscribe, Unsubscribe};

use crate::error::{Error, Expected};
use crate::header::{self, Header};
use crate::types::{MsgType, ReturnCode};

/// A message of MQTT-SN 1.2, without its forwarder encapsulation. Text and data borrow from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// ADVERTISE: a gateway is here (5.4.1).
    Advertise(Advertise),
    /// SEARCHGW: is a gateway here? (5.4.2)
    SearchGw {
        /// Broadcast radius in hops; 0 is the whole network.
        radius: u8,
    },
    /// GWINFO: the answer to SEARCHGW (5.4.3).
    GwInfo(GwInfo<'a>),
    /// CONNECT (5.4.4).
    Connect(Connect<'a>),
    /// CONNACK (5.4.5).
    ConnAck {
        /// Accepted, or why not.
        return_code: ReturnCode,
    },
    /// WILLTOPICREQ (5.4.6).
    WillTopicReq,
    /// WILLTOPIC (5.4.7); `None`, the empty WILLTOPIC, deletes the stored will topic and message.
    WillTopic(Option<WillTopic<'a>>),
    /// WILLMSGREQ (5.4.8).
    WillMsgReq,
    /// WILLMSG (5.4.9).
    WillMsg {
        /// The will message; may be empty.
        will_msg: &'a [u8],
    },
    /// REGISTER (5.4.10).
    Register(Register<'a>),
    /// REGACK (5.4.11).
    RegAck(RegAck),
    /// PUBLISH (5.4.12).
    Publish(Publish<'a>),
    /// PUBACK (5.4.13).
    PubAck(PubAck),
    /// PUBREC (5.4.14).
    PubRec {
        /// MsgId of the PUBLISH.
        msg_id: u16,
    },
    /// PUBREL (5.4.14).
    PubRel {
        /// MsgId of the PUBLISH.
        msg_id: u16,
    },
    /// PUBCOMP (5.4.14).
    PubComp {
        /// MsgId of the PUBLISH.
        msg_id: u16,
    },
    /// SUBSCRIBE (5.4.15).
    Subscribe(Subscribe<'a>),
    /// SUBACK (5.4.16).
    SubAck(SubAck),
    /// UNSUBSCRIBE (5.4.17).
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK (5.4.18).
    UnsubAck {
        /// MsgId of the UNSUBSCRIBE.
        msg_id: u16,
    },
    /// PINGREQ (5.4.19).
    PingReq {
        /// Given by a sleeping client that wakes; `Some("")` is sent as `None`.
        client_id: Option<&'a str>,
    },
    /// PINGRESP (5.4.20).
    PingResp,
    /// DISCONNECT (5.4.21).
    Disconnect {
        /// Sleep duration in seconds, given by a client that goes asleep.
        duration: Option<u16>,
    },
    /// WILLTOPICUPD (5.4.22); `None`, the empty WILLTOPICUPD, deletes the stored will topic and message.
    WillTopicUpd(Option<WillTopic<'a>>),
    /// WILLTOPICRESP (5.4.24).
    WillTopicResp {
        /// Accepted, or why not.
        return_code: ReturnCode,
    },
    /// WILLMSGUPD (5.4.23).
    WillMsgUpd {
        /// The new will message; may be empty.
        will_msg: &'a [u8],
    },
    /// WILLMSGRESP (5.4.25).
    WillMsgResp {
        /// Accepted, or why not.
        return_code: ReturnCode,
    },
}

impl<'a> Message<'a> {
    /// Reads one message that fills the bytes exactly, with either Length form.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::TooLong`]; [`Error::NestedEncapsulation`] for a forwarder encapsulation, which
    /// [`Frame::decode`](crate::Frame::decode) reads.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, Error> {
        let header = Header::read(bytes)?;
        let msg_type = MsgType::from_code(header.msg_type).ok_or(Error::ReservedMsgType {
            got: header.msg_type,
        })?;
        if msg_type == MsgType::Encapsulated {
            return Err(Error::NestedEncapsulation);
        }
        match bytes.len() {
            got if got < header.length => Err(Error::Truncated {
                expected: header.length,
                got,
            }),
            got if got > header.length => Err(Error::TrailingBytes {
                expected: header.length,
                got,
            }),
            _ => Message::decode_variable_part(msg_type, &bytes[header.header_len..]),
        }
    }

    fn decode_variable_part(msg_type: MsgType, body: &'a [u8]) -> Result<Message<'a>, Error> {
        Ok(match msg_type {
            MsgType::Advertise => Message::Advertise(Advertise::decode(body)?),
            MsgType::SearchGw => Message::SearchGw {
                radius: exactly::<1>(msg_type, body)?[0],
            },
            MsgType::GwInfo => Message::GwInfo(GwInfo::decode(body)?),
            MsgType::Connect => Message::Connect(Connect::decode(body)?),
            MsgType::ConnAck => Message::ConnAck {
                return_code: return_code(msg_type, body)?,
            },
            MsgType::WillTopicReq => {
                exactly::<0>(msg_type, body)?;
                Message::WillTopicReq
            }
            MsgType::WillTopic => Message::WillTopic(WillTopic::decode(msg_type, body)?),
            MsgType::WillMsgReq => {
                exactly::<0>(msg_type, body)?;
                Message::WillMsgReq
            }
            MsgType::WillMsg => Message::WillMsg { will_msg: body },
            MsgType::Register => Message::Register(Register::decode(body)?),
            MsgType::RegAck => Message::RegAck(RegAck::decode(body)?),
            MsgType::Publish => Message::Publish(Publish::decode(body)?),
            MsgType::PubAck => Message::PubAck(PubAck::decode(body)?),
            MsgType::PubRec => Message::PubRec {
                msg_id: msg_id(msg_type, body)?,
            },
            MsgType::PubRel => Message::PubRel {
                msg_id: msg_id(msg_type, body)?,
            },
            MsgType::PubComp => Message::PubComp {
                msg_id: msg_id(msg_type, body)?,
            },
            MsgType::Subscribe => Message::Subscribe(Subscribe::decode(body)?),
            MsgType::SubAck => Message::SubAck(SubAck::decode(body)?),
            MsgType::Unsubscribe => Message::Unsubscribe(Unsubscribe::decode(body)?),
            MsgType::UnsubAck => Message::UnsubAck {
                msg_id: msg_id(msg_type, body)?,
            },
            MsgType::PingReq => {
                let client_id = text(msg_type, "ClientId", body)?;
                Message::PingReq {
                    client_id: (!client_id.is_empty()).then_some(client_id),
                }
            }
            MsgType::PingResp => {
                exactly::<0>(msg_type, body)?;
                Message::PingResp
            }
            MsgType::Disconnect => Message::Disconnect {
                duration: match *body {
                    [] => None,
                    [high, low] => Some(u16::from_be_bytes([high, low])),
                    _ => return Err(variable_part(msg_type, Expected::Either(0, 2), body)),
                },
            },
            MsgType::WillTopicUpd => Message::WillTopicUpd(WillTopic::decode(msg_type, body)?),
            MsgType::WillTopicResp => Message::WillTopicResp {
                return_code: return_code(msg_type, body)?,
            },
            MsgType::WillMsgUpd => Message::WillMsgUpd { will_msg: body },
            MsgType::WillMsgResp => Message::WillMsgResp {
                return_code: return_code(msg_type, body)?,
            },
            MsgType::Encapsulated => return Err(Error::NestedEncapsulation),
        })
    }

    /// Appends the message to `out`, with the shortest Length form.
    ///
    /// # Errors
    /// [`Error::TooLong`] if it would be longer than [`MAX_MESSAGE_LEN`](crate::MAX_MESSAGE_LEN); `out` is then as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let variable_part = self.variable_part_len();
        out.reserve(header::message_len(variable_part));
        header::write(self.msg_type(), variable_part, out)?;
        match self {
            Message::Advertise(m) => m.encode(out),
            Message::SearchGw { radius } => out.push(*radius),
            Message::GwInfo(m) => m.encode(out),
            Message::Connect(m) => m.encode(out),
            Message::ConnAck { return_code }
            | Message::WillTopicResp { return_code }
            | Message::WillMsgResp { return_code } => out.push(return_code.0),
            Message::WillTopicReq | Message::WillMsgReq | Message::PingResp => {}
            Message::WillTopic(will) | Message::WillTopicUpd(will) => {
                if let Some(will) = will {
                    will.encode(out);
                }
            }
            Message::WillMsg { will_msg } | Message::WillMsgUpd { will_msg } => {
                out.extend_from_slice(will_msg)
            }
            Message::Register(m) => m.encode(out),
            Message::RegAck(m) => m.encode(out),
            Message::Publish(m) => m.encode(out),
            Message::PubAck(m) => m.encode(out),
            Message::PubRec { msg_id }
            | Message::PubRel { msg_id }
            | Message::PubComp { msg_id }
            | Message::UnsubAck { msg_id } => out.extend_from_slice(&msg_id.to_be_bytes()),
            Message::Subscribe(m) => m.encode(out),
            Message::SubAck(m) => m.encode(out),
            Message::Unsubscribe(m) => m.encode(out),
            Message::PingReq { client_id } => {
                out.extend_from_slice(client_id.unwrap_or_default().as_bytes())
            }
            Message::Disconnect { duration } => {
                if let Some(duration) = duration {
                    out.extend_from_slice(&duration.to_be_bytes());
                }
            }
        }
        Ok(())
    }

    /// Octets that [`Message::encode`] appends: to be compared with the largest datagram that the client can take.
    pub fn encoded_len(&self) -> usize {
        header::message_len(self.variable_part_len())
    }

    fn variable_part_len(&self) -> usize {
        match self {
            Message::Advertise(_) => 3,
            Message::SearchGw { .. }
            | Message::ConnAck { .. }
            | Message::WillTopicResp { .. }
            | Message::WillMsgResp { .. } => 1,
            Message::GwInfo(m) => 1 + m.gw_add.len(),
            Message::Connect(m) => 4 + m.client_id.len(),
            Message::WillTopicReq | Message::WillMsgReq | Message::PingResp => 0,
            Message::WillTopic(will) | Message::WillTopicUpd(will) => {
                will.map_or(0, |will| 1 + will.topic.len())
            }
            Message::WillMsg { will_msg } | Message::WillMsgUpd { will_msg } => will_msg.len(),
            Message::Register(m) => 4 + m.topic_name.len(),
            Message::RegAck(_) | Message::PubAck(_) => 5,
            Message::Publish(m) => 5 + m.data.len(),
            Message::PubRec { .. }
            | Message::PubRel { .. }
            | Message::PubComp { .. }
            | Message::UnsubAck { .. } => 2,
            Message::Subscribe(m) => 3 + m.topic.encoded_len(),
            Message::SubAck(_) => 6,
            Message::Unsubscribe(m) => 3 + m.topic.encoded_len(),
            Message::PingReq { client_id } => client_id.map_or(0, str::len),
            Message::Disconnect { duration } => duration.map_or(0, |_| 2),
        }
    }

    /// The message type.
    pub fn msg_type(&self) -> MsgType {
        match self {
            Message::Advertise(_) => MsgType::Advertise,
            Message::SearchGw { .. } => MsgType::SearchGw,
            Message::GwInfo(_) => MsgType::GwInfo,
            Message::Connect(_) => MsgType::Connect,
            Message::ConnAck { .. } => MsgType::ConnAck,
            Message::WillTopicReq => MsgType::WillTopicReq,
            Message::WillTopic(_) => MsgType::WillTopic,
            Message::WillMsgReq => MsgType::WillMsgReq,
            Message::WillMsg { .. } => MsgType::WillMsg,
            Message::Register(_) => MsgType::Register,
            Message::RegAck(_) => MsgType::RegAck,
            Message::Publish(_) => MsgType::Publish,
            Message::PubAck(_) => MsgType::PubAck,
            Message::PubRec { .. } => MsgType::PubRec,
            Message::PubRel { .. } => MsgType::PubRel,
            Message::PubComp { .. } => MsgType::PubComp,
            Message::Subscribe(_) => MsgType::Subscribe,
            Message::SubAck(_) => MsgType::SubAck,
            Message::Unsubscribe(_) => MsgType::Unsubscribe,
            Message::UnsubAck { .. } => MsgType::UnsubAck,
            Message::PingReq { .. } => MsgType::PingReq,
            Message::PingResp => MsgType::PingResp,
            Message::Disconnect { .. } => MsgType::Disconnect,
            Message::WillTopicUpd(_) => MsgType::WillTopicUpd,
            Message::WillTopicResp { .. } => MsgType::WillTopicResp,
            Message::WillMsgUpd { .. } => MsgType::WillMsgUpd,
            Message::WillMsgResp { .. } => MsgType::WillMsgResp,
        }
    }

    /// The MsgId, of messages that have one. 0 of a PUBLISH means that none is used.
    pub fn msg_id(&self) -> Option<u16> {
        match *self {
            Message::Register(Register { msg_id, .. })
            | Message::RegAck(RegAck { msg_id, .. })
            | Message::Publish(Publish { msg_id, .. })
            | Message::PubAck(PubAck { msg_id, .. })
            | Message::PubRec { msg_id }
            | Message::PubRel { msg_id }
            | Message::PubComp { msg_id }
            | Message::Subscribe(Subscribe { msg_id, .. })
            | Message::SubAck(SubAck { msg_id, .. })
            | Message::Unsubscribe(Unsubscribe { msg_id, .. })
            | Message::UnsubAck { msg_id } => Some(msg_id),
            _ => None,
        }
    }
}

/// The error for a variable part of the wrong size.
fn variable_part(message: MsgType, expected: Expected, body: &[u8]) -> Error {
    Error::VariablePart {
        message,
        expected,
        got: body.len(),
    }
}

/// The body as an array of exactly this size.
fn exactly<const N: usize>(message: MsgType, body: &[u8]) -> Result<[u8; N], Error> {
    body.try_into()
        .map_err(|_| variable_part(message, Expected::Exactly(N), body))
}

/// The first `N` octets of the body and the rest.
fn at_least<const N: usize>(message: MsgType, body: &[u8]) -> Result<(&[u8; N], &[u8]), Error> {
    body.split_first_chunk()
        .ok_or_else(|| variable_part(message, Expected::AtLeast(N), body))
}

fn return_code(message: MsgType, body: &[u8]) -> Result<ReturnCode, Error> {
    exactly::<1>(message, body).map(|[code]| ReturnCode(code))
}

fn msg_id(message: MsgType, body: &[u8]) -> Result<u16, Error> {
    exactly(message, body).map(u16::from_be_bytes)
}

fn text<'a>(message: MsgType, field: &'static str, octets: &'a [u8]) -> Result<&'a str, Error> {
    std::str::from_utf8(octets).map_err(|e| {
        let valid_up_to = e.valid_up_to();
        Error::NotUtf8 {
            message,
            field,
            valid_up_to,
            got: octets[valid_up_to],
        }
    })
}
