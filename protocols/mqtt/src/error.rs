//! What can go wrong: [`DecodeError`] blames the peer, [`EncodeError`] the caller.

use crate::{PacketType, ReasonCode, TopicError};

/// Why bytes are not a legal packet here. The connection they came from has to end.
///
/// [`DecodeError::reason_code`] is what to tell a 5.0 peer before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first packet is something else [MQTT-3.1.0-1]. Nothing is answered.
    #[error("expected CONNECT as the first packet, got a first byte of 0x{0:02X}")]
    ExpectedConnect(u8),
    /// CONNECT came twice [MQTT-3.1.0-2].
    #[error("expected one CONNECT in a connection, got a second")]
    SecondConnect,
    /// Packet type 0, or 15 before 5.0.
    #[error("expected a packet type of this version, got {0}")]
    ReservedPacketType(u8),
    /// Only the other side may send this packet.
    #[error("expected a packet this peer may send, got {0}")]
    WrongDirection(PacketType),
    /// The flags of the first byte are not what the type prescribes [MQTT-2.1.3-1].
    #[error("{packet}: expected flags 0b{expected:04b}, got 0b{got:04b}")]
    ReservedFlags {
        /// The packet.
        packet: PacketType,
        /// The only flags allowed.
        expected: u8,
        /// The flags that came.
        got: u8,
    },
    /// PUBLISH with both QoS bits set [MQTT-3.3.1-4].
    #[error("PUBLISH: expected QoS 0, 1 or 2, got 3")]
    PublishQoS,
    /// PUBLISH with DUP and QoS 0 [MQTT-3.3.1-2].
    #[error("PUBLISH: expected DUP 0 with QoS 0, got 1")]
    DupWithQoS0,
    /// The remaining length goes on after four bytes.
    #[error("expected a remaining length of at most 4 bytes, got a continuation bit in the fourth")]
    RemainingLength,
    /// The packet is larger than the decoder accepts. Told from the fixed header alone.
    #[error("expected at most {max} bytes, got a packet of {got}")]
    PacketTooLarge {
        /// The limit, fixed header included.
        max: u32,
        /// The packet's size, fixed header included.
        got: u32,
    },
    /// The remaining length cannot be right for this type and version.
    #[error("{packet}: expected a remaining length of {expected}, got {got}")]
    WrongLength {
        /// The packet.
        packet: PacketType,
        /// The only length allowed.
        expected: u32,
        /// The length that came.
        got: u32,
    },
    /// The packet ends inside a field.
    #[error("{field}: expected more bytes, got the end of the packet")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// Bytes follow the last field.
    #[error("{packet}: expected the end of the packet, got {got} more bytes")]
    TrailingBytes {
        /// The packet.
        packet: PacketType,
        /// How many.
        got: usize,
    },
    /// A variable byte integer goes on after four bytes, or is longer than its value needs [MQTT-1.5.5-1].
    #[error("{field}: expected a variable byte integer of at most 4 bytes in its shortest form")]
    VariableByteInteger {
        /// The field.
        field: &'static str,
    },
    /// A string is not UTF-8 [MQTT-1.5.4-1].
    #[error("{field}: expected UTF-8, got an invalid sequence at byte {at}")]
    InvalidUtf8 {
        /// The field.
        field: &'static str,
        /// Where in the string.
        at: u32,
    },
    /// A string holds U+0000 [MQTT-1.5.4-2].
    #[error("{field}: expected no U+0000, got one")]
    NullCharacter {
        /// The field.
        field: &'static str,
    },
    /// CONNECT names another protocol [MQTT-3.1.2-1].
    #[error("CONNECT: expected protocol name MQTT or MQIsdp, got another")]
    ProtocolName,
    /// CONNECT has a protocol level that the name does not have [MQTT-3.1.2-2].
    #[error("CONNECT: expected protocol level 3 (MQIsdp), 4 or 5 (MQTT), got {0}")]
    ProtocolLevel(u8),
    /// The connect flags contradict each other or the standard [MQTT-3.1.2-3].
    #[error("CONNECT: expected {expected}, got connect flags 0b{got:08b}")]
    ConnectFlags {
        /// The rule.
        expected: &'static str,
        /// The flags.
        got: u8,
    },
    /// A packet identifier of 0 [MQTT-2.2.1-3].
    #[error("{packet}: expected a packet identifier above 0, got 0")]
    ZeroPacketId {
        /// The packet.
        packet: PacketType,
    },
    /// The topic name of a PUBLISH or a will is not one.
    #[error("topic name: {0}")]
    TopicName(TopicError),
    /// PUBLISH has neither topic name nor topic alias.
    #[error("PUBLISH: expected a topic name or a topic alias, got neither")]
    NoTopic,
    /// A topic filter is not one.
    #[error("topic filter: {0}")]
    TopicFilter(TopicError),
    /// The response topic is not a topic name [MQTT-3.3.2-14].
    #[error("response topic: {0}")]
    ResponseTopic(TopicError),
    /// The topic alias is 0 [MQTT-3.3.2-8].
    #[error("expected a topic alias above 0, got 0")]
    TopicAliasZero,
    /// SUBSCRIBE, UNSUBSCRIBE, SUBACK or (5.0) UNSUBACK without payload [MQTT-3.8.3-2] [MQTT-3.10.3-2].
    #[error("{packet}: expected at least one entry, got none")]
    EmptyPayload {
        /// The packet.
        packet: PacketType,
    },
    /// Reserved bits of a subscription options byte are set [MQTT-3.8.3-5].
    #[error("SUBSCRIBE: expected reserved option bits 0, got options 0b{0:08b}")]
    SubscriptionReservedBits(u8),
    /// A subscription asks for QoS 3.
    #[error("SUBSCRIBE: expected QoS 0, 1 or 2, got 3")]
    SubscriptionQoS,
    /// A subscription has retain handling 3.
    #[error("SUBSCRIBE: expected retain handling 0, 1 or 2, got 3")]
    RetainHandling,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    #[error("SUBSCRIBE: expected No Local 0 on a shared subscription, got 1")]
    NoLocalOnShared,
    /// A property that does not exist or not in this packet (section 2.2.2.2).
    #[error("{packet}: expected a property of this packet, got identifier 0x{id:02X}")]
    UnexpectedProperty {
        /// The packet; CONNECT for its will too.
        packet: PacketType,
        /// The property identifier.
        id: u32,
    },
    /// A property that may come once came twice.
    #[error("{property}: expected once, got it twice")]
    DuplicateProperty {
        /// The property.
        property: &'static str,
    },
    /// A property has a value outside its range.
    #[error("{property}: expected {expected}, got {got}")]
    PropertyValue {
        /// The property.
        property: &'static str,
        /// The range.
        expected: &'static str,
        /// The value.
        got: u32,
    },
    /// A property that this side may not send.
    #[error("{packet}: expected no {property} from this side, got one")]
    PropertyDirection {
        /// The packet.
        packet: PacketType,
        /// The property.
        property: &'static str,
    },
    /// Authentication data without a method, or AUTH without a method.
    #[error("{packet}: expected an authentication method, got none")]
    NoAuthenticationMethod {
        /// The packet.
        packet: PacketType,
    },
    /// A reason or return code that this packet does not have, or not from this side.
    #[error("{packet}: expected a reason code of this packet and side, got 0x{got:02X}")]
    ReasonCode {
        /// The packet.
        packet: PacketType,
        /// The code.
        got: u8,
    },
    /// CONNACK with session present and an error [MQTT-3.2.2-6].
    #[error("CONNACK: expected session present 0 with an error, got 1")]
    SessionPresentWithError,
    /// Reserved bits of the connect acknowledge flags are set [MQTT-3.2.2-1].
    #[error("CONNACK: expected acknowledge flags 0 or 1, got 0b{0:08b}")]
    ConnackFlags(u8),
}

impl DecodeError {
    /// The reason code that tells a 5.0 peer what happened.
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReservedPacketType(_)
            | Self::ReservedFlags { .. }
            | Self::PublishQoS
            | Self::DupWithQoS0
            | Self::RemainingLength
            | Self::WrongLength { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::VariableByteInteger { .. }
            | Self::InvalidUtf8 { .. }
            | Self::NullCharacter { .. }
            | Self::ConnectFlags { .. }
            | Self::SubscriptionReservedBits(_)
            | Self::UnexpectedProperty { .. }
            | Self::ConnackFlags(_) => ReasonCode::MalformedPacket,
            Self::ExpectedConnect(_)
            | Self::SecondConnect
            | Self::WrongDirection(_)
            | Self::ZeroPacketId { .. }
            | Self::NoTopic
            | Self::ResponseTopic(_)
            | Self::EmptyPayload { .. }
            | Self::SubscriptionQoS
            | Self::RetainHandling
            | Self::NoLocalOnShared
            | Self::DuplicateProperty { .. }
            | Self::PropertyValue { .. }
            | Self::PropertyDirection { .. }
            | Self::NoAuthenticationMethod { .. }
            | Self::ReasonCode { .. }
            | Self::SessionPresentWithError => ReasonCode::ProtocolError,
            Self::ProtocolName | Self::ProtocolLevel(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
            Self::TopicFilter(_) => ReasonCode::TopicFilterInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
        }
    }
}

/// Why a packet cannot be written. Nothing of it has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field is longer than its two-byte length can say.
    #[error("{field}: expected at most 65535 bytes, got {got}")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        got: usize,
    },
    /// The remaining length is above 268,435,455.
    #[error("expected a remaining length of at most 268435455, got {0}")]
    PacketTooLarge(usize),
    /// A packet identifier is 0, or missing where the QoS needs one.
    #[error("{0}: expected a packet identifier above 0, got none")]
    NoPacketId(PacketType),
    /// A value that the wire format cannot carry.
    #[error("{field}: expected {expected}, got {got}")]
    Value {
        /// The field.
        field: &'static str,
        /// The range.
        expected: &'static str,
        /// The value.
        got: u32,
    },
    /// SUBSCRIBE, UNSUBSCRIBE, SUBACK or (5.0) UNSUBACK without an entry.
    #[error("{0}: expected at least one entry, got none")]
    EmptyPayload(PacketType),
    /// This version does not have the packet: AUTH in 3.x.
    #[error("{0}: expected MQTT 5.0, got a version without it")]
    NotInVersion(PacketType),
}
