//! Telling MQTT-SN 1.2 from 2.0 by the first datagram of an unknown address.

use crate::flags::{Flags, QoS};
use crate::header::Header;

/// What a first datagram looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MQTT-SN 1.2. It may still be malformed.
    V1_2,
    /// MQTT-SN 2.0, which this crate does not decode.
    V2_0,
    /// MsgType 0x12: SUBSCRIBE of a 1.2 client whose session was lost, or PUBWOS of 2.0. The listener's settings decide.
    SubscribeOrPubWos,
    /// Nothing that either version sends first.
    Unknown,
}

/// Says which version an unknown sender speaks. A known sender's version is that of its session: do not ask again.
///
/// The two versions number their message types differently, so only types that open a conversation are told apart. For
/// 2.0 this follows the committee draft of August 2026.
pub fn classify(datagram: &[u8]) -> Dialect {
    let Ok(header) = Header::read(datagram) else {
        return Dialect::Unknown;
    };
    let body = datagram.get(header.header_len..).unwrap_or_default();
    match (header.msg_type, body) {
        // 1.2 SEARCHGW has a radius and nothing else; 2.0 CONNECT is flags, packet id, version 2 and more.
        (0x01, [_]) => Dialect::V1_2,
        (0x01, [_, _, _, 2, ..]) if header.length >= 10 => Dialect::V2_0,
        // 1.2 CONNECT: Flags, ProtocolId.
        (0x04, [_, crate::types::PROTOCOL_ID, ..]) => Dialect::V1_2,
        // 2.0 PINGREQ is a packet id; 1.2 PUBLISH without a session has QoS -1.
        (0x0C, [_, _]) => Dialect::V2_0,
        (0x0C, [flags, _, _, _, _, ..]) if Flags(*flags).qos() == QoS::MinusOne => Dialect::V1_2,
        (0x12, _) => Dialect::SubscribeOrPubWos,
        (0x16 | 0x18, _) => Dialect::V1_2,
        (0xFC | 0xFF | 0x17, _) => Dialect::V2_0,
        // The Length of a 1.2 encapsulation ends at the node id, that of 2.0 at the end.
        (0xFE, _) if header.length < datagram.len() => Dialect::V1_2,
        (0xFE, _) if header.length == datagram.len() => Dialect::V2_0,
        _ => Dialect::Unknown,
    }
}
