//! CONNECT and the will topic of WILLTOPIC and WILLTOPICUPD (sections 6.2 to 6.4).

use super::{at_least, text};
use crate::error::Error;
use crate::flags::{Flags, QoS};
use crate::types::MsgType;

/// CONNECT (5.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The client asks to be prompted for will topic and will message.
    pub will: bool,
    /// CleanSession, which in MQTT-SN extends to the will (6.3).
    pub clean_session: bool,
    /// ProtocolId, [`PROTOCOL_ID`](crate::PROTOCOL_ID) if this is MQTT-SN 1.2.
    pub protocol_id: u8,
    /// Keep alive timer in seconds.
    pub duration: u16,
    /// ClientId. The standard wants 1 to 23 characters; any length is passed on.
    pub client_id: &'a str,
}

impl<'a> Connect<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Connect<'a>, Error> {
        let (&[flags, protocol_id, high, low], client_id) = at_least(MsgType::Connect, body)?;
        let flags = Flags(flags);
        Ok(Connect {
            will: flags.will(),
            clean_session: flags.clean_session(),
            protocol_id,
            duration: u16::from_be_bytes([high, low]),
            client_id: text(MsgType::Connect, "ClientId", client_id)?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let flags = Flags::default()
            .with_will(self.will)
            .with_clean_session(self.clean_session);
        out.extend_from_slice(&[flags.0, self.protocol_id]);
        out.extend_from_slice(&self.duration.to_be_bytes());
        out.extend_from_slice(self.client_id.as_bytes());
    }
}

/// The content of a WILLTOPIC or WILLTOPICUPD that is not empty (5.4.7, 5.4.22).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WillTopic<'a> {
    /// QoS of the will. -1 has no meaning here and is for the gateway to refuse.
    pub qos: QoS,
    /// Retain flag of the will.
    pub retain: bool,
    /// Topic name of the will.
    pub topic: &'a str,
}

impl<'a> WillTopic<'a> {
    pub(super) fn decode(message: MsgType, body: &'a [u8]) -> Result<Option<WillTopic<'a>>, Error> {
        let [flags, topic @ ..] = body else {
            return Ok(None);
        };
        let flags = Flags(*flags);
        Ok(Some(WillTopic {
            qos: flags.qos(),
            retain: flags.retain(),
            topic: text(message, "WillTopic", topic)?,
        }))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(
            Flags::default()
                .with_qos(self.qos)
                .with_retain(self.retain)
                .0,
        );
        out.extend_from_slice(self.topic.as_bytes());
    }
}
