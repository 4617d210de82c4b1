//! REGISTER, REGACK, PUBLISH and PUBACK (sections 6.5 to 6.8 and 6.10).

use super::{at_least, exactly, text};
use crate::error::Error;
use crate::flags::{Flags, QoS, TopicIdType};
use crate::types::{MsgType, PublishTopic, ReturnCode};

/// REGISTER (5.4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register<'a> {
    /// The id that the gateway gives; 0 from a client, which asks for one.
    pub topic_id: u16,
    /// To be repeated in REGACK.
    pub msg_id: u16,
    /// The topic name, not checked to be one.
    pub topic_name: &'a str,
}

impl<'a> Register<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Register<'a>, Error> {
        let (&[t0, t1, m0, m1], topic_name) = at_least(MsgType::Register, body)?;
        Ok(Register {
            topic_id: u16::from_be_bytes([t0, t1]),
            msg_id: u16::from_be_bytes([m0, m1]),
            topic_name: text(MsgType::Register, "TopicName", topic_name)?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.topic_id.to_be_bytes());
        out.extend_from_slice(&self.msg_id.to_be_bytes());
        out.extend_from_slice(self.topic_name.as_bytes());
    }
}

/// REGACK (5.4.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegAck {
    /// The id that stands for the topic from now on.
    pub topic_id: u16,
    /// MsgId of the REGISTER.
    pub msg_id: u16,
    /// Accepted, or why not.
    pub return_code: ReturnCode,
}

impl RegAck {
    pub(super) fn decode(body: &[u8]) -> Result<RegAck, Error> {
        let (topic_id, msg_id, return_code) = decode_ack(MsgType::RegAck, body)?;
        Ok(RegAck {
            topic_id,
            msg_id,
            return_code,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_ack(self.topic_id, self.msg_id, self.return_code, out);
    }
}

/// PUBLISH (5.4.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before.
    pub dup: bool,
    /// QoS; -1 only from clients.
    pub qos: QoS,
    /// Retain.
    pub retain: bool,
    /// Topic id or short topic name.
    pub topic: PublishTopic,
    /// MsgId, to be repeated in PUBACK or PUBREC; 0 with QoS 0 and -1.
    pub msg_id: u16,
    /// The published data; may be empty.
    pub data: &'a [u8],
}

impl<'a> Publish<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Publish<'a>, Error> {
        let (&[flags, t0, t1, m0, m1], data) = at_least(MsgType::Publish, body)?;
        let flags = Flags(flags);
        let topic = match flags.topic_id_type() {
            TopicIdType::Normal => PublishTopic::Normal(u16::from_be_bytes([t0, t1])),
            TopicIdType::Predefined => PublishTopic::Predefined(u16::from_be_bytes([t0, t1])),
            TopicIdType::ShortName => PublishTopic::Short([t0, t1]),
            TopicIdType::Reserved => {
                return Err(Error::ReservedTopicIdType {
                    message: MsgType::Publish,
                });
            }
        };
        Ok(Publish {
            dup: flags.dup(),
            qos: flags.qos(),
            retain: flags.retain(),
            topic,
            msg_id: u16::from_be_bytes([m0, m1]),
            data,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let topic_id_type = match self.topic {
            PublishTopic::Normal(_) => TopicIdType::Normal,
            PublishTopic::Predefined(_) => TopicIdType::Predefined,
            PublishTopic::Short(_) => TopicIdType::ShortName,
        };
        let flags = Flags::default()
            .with_dup(self.dup)
            .with_qos(self.qos)
            .with_retain(self.retain);
        out.push(flags.with_topic_id_type(topic_id_type).0);
        out.extend_from_slice(&self.topic.raw().to_be_bytes());
        out.extend_from_slice(&self.msg_id.to_be_bytes());
        out.extend_from_slice(self.data);
    }
}

/// PUBACK (5.4.13): the end of a QoS 1 exchange, or the refusal of a PUBLISH of any QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PubAck {
    /// The topic's 2 octets as they stood in the PUBLISH; see [`PublishTopic::raw`].
    pub topic_id: u16,
    /// MsgId of the PUBLISH.
    pub msg_id: u16,
    /// Accepted, or why not.
    pub return_code: ReturnCode,
}

impl PubAck {
    pub(super) fn decode(body: &[u8]) -> Result<PubAck, Error> {
        let (topic_id, msg_id, return_code) = decode_ack(MsgType::PubAck, body)?;
        Ok(PubAck {
            topic_id,
            msg_id,
            return_code,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_ack(self.topic_id, self.msg_id, self.return_code, out);
    }
}

/// REGACK and PUBACK have one layout.
fn decode_ack(message: MsgType, body: &[u8]) -> Result<(u16, u16, ReturnCode), Error> {
    let [t0, t1, m0, m1, code] = exactly(message, body)?;
    Ok((
        u16::from_be_bytes([t0, t1]),
        u16::from_be_bytes([m0, m1]),
        ReturnCode(code),
    ))
}

fn encode_ack(topic_id: u16, msg_id: u16, return_code: ReturnCode, out: &mut Vec<u8>) {
    out.extend_from_slice(&topic_id.to_be_bytes());
    out.extend_from_slice(&msg_id.to_be_bytes());
    out.push(return_code.0);
}
