//! The fast way to write a PUBLISH: everything but the payload, from parts that a delivery has at hand.

use super::Publish;
use crate::wire::MAX_VARIABLE;
use crate::wire::write::{packet_len, variable_bytes, variable_len};
use crate::{EncodeError, PacketType, ProtocolVersion, QoS};

/// A PUBLISH without its payload, made of borrowed parts.
///
/// The same message goes to many subscribers; what it carries unaltered is in wire form already ([`forwarded`]), so that a
/// delivery copies it and looks at nothing. A payload can follow in the same buffer ([`encode_with`]) or in a
/// vectored write ([`encode`]).
///
/// ```
/// use nightjar_mqtt::{ProtocolVersion, packet::PublishHead};
/// let head = PublishHead { topic: "a/b", ..PublishHead::default() };
/// let mut out = Vec::new();
/// head.encode_with(ProtocolVersion::V311, b"hi", &mut out)?;
/// assert_eq!(out, b"\x30\x07\0\x03a/bhi");
/// # Ok::<(), nightjar_mqtt::EncodeError>(())
/// ```
///
/// [`forwarded`]: Self::forwarded
/// [`encode`]: Self::encode
/// [`encode_with`]: Self::encode_with
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PublishHead<'a> {
    /// Sent before, perhaps. Must be false with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The topic name, valid; empty only in 5.0 and only with an alias.
    pub topic: &'a str,
    /// The packet identifier with QoS 1 and 2, never 0; not written with QoS 0.
    pub packet_id: Option<u16>,
    /// 5.0: the topic alias, never 0.
    pub topic_alias: Option<u16>,
    /// 5.0: seconds the message has left.
    pub message_expiry_interval: Option<u32>,
    /// 5.0: identifiers of the subscriptions that matched, 1 to 268,435,455.
    pub subscription_identifiers: &'a [u32],
    /// 5.0: what [`PublishProperties::encode_forwarded`](super::PublishProperties::encode_forwarded) wrote.
    pub forwarded: &'a [u8],
}

impl PublishHead<'_> {
    /// The length of the whole packet, payload included: what a client's maximum packet size is compared with.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    #[inline]
    pub fn encoded_len(
        &self,
        version: ProtocolVersion,
        payload_len: usize,
    ) -> Result<usize, EncodeError> {
        let properties = self.check(version)?;
        packet_len(self.remaining(version, properties, payload_len))
    }

    /// Appends all but the payload, whose `payload_len` bytes the caller sends next.
    ///
    /// # Errors
    /// The topic or the packet is too long, a QoS above 0 has no packet identifier, alias or subscription identifier is
    /// out of range. `out` is as it was.
    #[inline]
    pub fn encode(
        &self,
        version: ProtocolVersion,
        payload_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let properties = self.check(version)?;
        let remaining = self.remaining(version, properties, payload_len);
        out.reserve(packet_len(remaining)? - payload_len);
        self.write(version, properties, remaining, out);
        Ok(())
    }

    /// Appends the whole packet.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    #[inline]
    pub fn encode_with(
        &self,
        version: ProtocolVersion,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let properties = self.check(version)?;
        let remaining = self.remaining(version, properties, payload.len());
        out.reserve(packet_len(remaining)?);
        self.write(version, properties, remaining, out);
        out.extend_from_slice(payload);
        Ok(())
    }

    /// Checks all but the packet's length and returns the length of the properties.
    #[inline]
    fn check(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        if self.topic.len() > usize::from(u16::MAX) {
            return Err(EncodeError::FieldTooLong {
                field: "topic name",
                got: self.topic.len(),
            });
        }
        match (self.qos, self.packet_id) {
            (QoS::AtMostOnce, _) => {}
            (_, None | Some(0)) => return Err(EncodeError::NoPacketId(PacketType::Publish)),
            (_, Some(_)) => {}
        }
        if version.is_v5() {
            self.properties_len()
        } else {
            Ok(0)
        }
    }

    /// The length of the properties without their length field.
    #[inline]
    fn properties_len(&self) -> Result<usize, EncodeError> {
        let mut length = self.forwarded.len();
        if let Some(alias) = self.topic_alias {
            if alias == 0 {
                return Err(EncodeError::Value {
                    field: "Topic Alias",
                    expected: "a value above 0",
                    got: 0,
                });
            }
            length += 3;
        }
        if self.message_expiry_interval.is_some() {
            length += 5;
        }
        for &id in self.subscription_identifiers {
            if id == 0 || id > MAX_VARIABLE {
                return Err(EncodeError::Value {
                    field: "Subscription Identifier",
                    expected: "1 to 268435455",
                    got: id,
                });
            }
            length += 1 + variable_len(id as usize);
        }
        // A length above the protocol's limit is found with the packet's.
        Ok(length)
    }

    #[inline]
    fn remaining(&self, version: ProtocolVersion, properties: usize, payload_len: usize) -> usize {
        let mut length = 2 + self.topic.len() + payload_len;
        if self.qos != QoS::AtMostOnce {
            length += 2;
        }
        if version.is_v5() {
            length += variable_len(properties) + properties;
        }
        length
    }

    /// Writes what was checked and reserved.
    #[inline]
    fn write(
        &self,
        version: ProtocolVersion,
        properties: usize,
        remaining: usize,
        out: &mut Vec<u8>,
    ) {
        out.push(0x30 | Publish::flags(self.dup, self.qos, self.retain));
        put_variable(out, remaining);
        // `check` refused a longer topic.
        let topic_len = self.topic.len() as u16;
        out.extend_from_slice(&topic_len.to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if self.qos != QoS::AtMostOnce {
            out.extend_from_slice(&self.packet_id.unwrap_or(0).to_be_bytes());
        }
        if version.is_v5() {
            self.write_properties(properties, out);
        }
    }

    #[inline]
    fn write_properties(&self, length: usize, out: &mut Vec<u8>) {
        put_variable(out, length);
        if length == 0 {
            return;
        }
        if let Some(alias) = self.topic_alias {
            let [high, low] = alias.to_be_bytes();
            out.extend_from_slice(&[0x23, high, low]);
        }
        if let Some(seconds) = self.message_expiry_interval {
            let [a, b, c, d] = seconds.to_be_bytes();
            out.extend_from_slice(&[0x02, a, b, c, d]);
        }
        for &id in self.subscription_identifiers {
            out.push(0x0B);
            put_variable(out, id as usize);
        }
        out.extend_from_slice(self.forwarded);
    }
}

/// Appends a variable byte integer that was checked to be in range.
#[inline]
fn put_variable(out: &mut Vec<u8>, value: usize) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        let (bytes, length) = variable_bytes(value as u32);
        out.extend_from_slice(&bytes[..length]);
    }
}
