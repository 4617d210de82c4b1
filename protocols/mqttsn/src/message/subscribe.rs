//! SUBSCRIBE, SUBACK and UNSUBSCRIBE (section 6.9).

use super::{at_least, exactly, text};
use crate::error::Error;
use crate::flags::{Flags, QoS, TopicIdType};
use crate::types::{FilterOrId, MsgType, ReturnCode};

/// SUBSCRIBE (5.4.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Sent before.
    pub dup: bool,
    /// Requested QoS. -1 has no meaning here and is for the gateway to refuse.
    pub qos: QoS,
    /// To be repeated in SUBACK.
    pub msg_id: u16,
    /// What to subscribe to.
    pub topic: FilterOrId<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Subscribe<'a>, Error> {
        let (&[flags, m0, m1], topic) = at_least(MsgType::Subscribe, body)?;
        let flags = Flags(flags);
        Ok(Subscribe {
            dup: flags.dup(),
            qos: flags.qos(),
            msg_id: u16::from_be_bytes([m0, m1]),
            topic: FilterOrId::decode(MsgType::Subscribe, flags, topic)?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(
            Flags::default()
                .with_dup(self.dup)
                .with_qos(self.qos)
                .with_topic_id_type(self.topic.id_type())
                .0,
        );
        out.extend_from_slice(&self.msg_id.to_be_bytes());
        self.topic.encode(out);
    }
}

/// SUBACK (5.4.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck {
    /// Granted QoS.
    pub qos: QoS,
    /// Id of the topic in PUBLISH messages to come; 0 if there is none (filter with wildcards, short name).
    pub topic_id: u16,
    /// MsgId of the SUBSCRIBE.
    pub msg_id: u16,
    /// Accepted, or why not.
    pub return_code: ReturnCode,
}

impl SubAck {
    pub(super) fn decode(body: &[u8]) -> Result<SubAck, Error> {
        let [flags, t0, t1, m0, m1, code] = exactly(MsgType::SubAck, body)?;
        Ok(SubAck {
            qos: Flags(flags).qos(),
            topic_id: u16::from_be_bytes([t0, t1]),
            msg_id: u16::from_be_bytes([m0, m1]),
            return_code: ReturnCode(code),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(Flags::default().with_qos(self.qos).0);
        out.extend_from_slice(&self.topic_id.to_be_bytes());
        out.extend_from_slice(&self.msg_id.to_be_bytes());
        out.push(self.return_code.0);
    }
}

/// UNSUBSCRIBE (5.4.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// To be repeated in UNSUBACK.
    pub msg_id: u16,
    /// What to unsubscribe from.
    pub topic: FilterOrId<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Unsubscribe<'a>, Error> {
        let (&[flags, m0, m1], topic) = at_least(MsgType::Unsubscribe, body)?;
        Ok(Unsubscribe {
            msg_id: u16::from_be_bytes([m0, m1]),
            topic: FilterOrId::decode(MsgType::Unsubscribe, Flags(flags), topic)?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(Flags::default().with_topic_id_type(self.topic.id_type()).0);
        out.extend_from_slice(&self.msg_id.to_be_bytes());
        self.topic.encode(out);
    }
}

impl<'a> FilterOrId<'a> {
    fn decode(message: MsgType, flags: Flags, octets: &'a [u8]) -> Result<FilterOrId<'a>, Error> {
        let two = || {
            <[u8; 2]>::try_from(octets).map_err(|_| Error::TopicSize {
                message,
                expected: 2,
                got: octets.len(),
            })
        };
        match flags.topic_id_type() {
            TopicIdType::Normal => Ok(FilterOrId::Name(text(message, "TopicName", octets)?)),
            TopicIdType::Predefined => Ok(FilterOrId::Predefined(u16::from_be_bytes(two()?))),
            TopicIdType::ShortName => Ok(FilterOrId::Short(two()?)),
            TopicIdType::Reserved => Err(Error::ReservedTopicIdType { message }),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            FilterOrId::Name(name) => out.extend_from_slice(name.as_bytes()),
            FilterOrId::Predefined(id) => out.extend_from_slice(&id.to_be_bytes()),
            FilterOrId::Short(name) => out.extend_from_slice(name),
        }
    }

    fn id_type(&self) -> TopicIdType {
        match self {
            FilterOrId::Name(_) => TopicIdType::Normal,
            FilterOrId::Predefined(_) => TopicIdType::Predefined,
            FilterOrId::Short(_) => TopicIdType::ShortName,
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        match self {
            FilterOrId::Name(name) => name.len(),
            FilterOrId::Predefined(_) | FilterOrId::Short(_) => 2,
        }
    }
}
