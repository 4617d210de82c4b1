//! The control packets: one file per packet with its structure, its decoder and its encoder.
//!
//! Structures borrow strings and binary data from the buffer they were decoded from, or from whatever the caller
//! encodes. The same structures serve all versions: what a version does not have is left at its default when decoded and
//! is not written when encoded.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod encode;
mod publish;
mod publish_head;
mod suback;
mod subscribe;
mod unsuback;
mod unsubscribe;

pub use ack::{Ack, AckProperties};
pub use auth::{Auth, AuthProperties};
pub use connack::{Connack, ConnackProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties, peek_connect_version};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use encode::{AckKind, encode_ack, encode_pingreq, encode_pingresp};
pub use publish::{ForwardedProperties, PayloadFormat, Publish, PublishProperties};
pub use publish_head::PublishHead;
pub use suback::Suback;
pub use subscribe::{
    RetainHandling, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions,
};
pub use unsuback::Unsuback;
pub use unsubscribe::{Unsubscribe, UnsubscribeProperties};

use crate::wire::read::{self, Parsed, fail};
use crate::wire::write::Sink;
use crate::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// User properties in the order they were sent; the same name may come more than once [MQTT-3.1.3-10].
pub type UserProperties<'a> = Vec<(&'a str, &'a str)>;

/// A control packet of any version and direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet<'a> {
    /// Client to server: the first packet.
    Connect(Box<Connect<'a>>),
    /// Server to client: the answer to CONNECT.
    Connack(Box<Connack<'a>>),
    /// A message.
    Publish(Publish<'a>),
    /// Acknowledges a QoS 1 PUBLISH.
    Puback(Ack<'a>),
    /// QoS 2: received.
    Pubrec(Ack<'a>),
    /// QoS 2: release.
    Pubrel(Ack<'a>),
    /// QoS 2: complete.
    Pubcomp(Ack<'a>),
    /// Client to server: asks for subscriptions.
    Subscribe(Subscribe<'a>),
    /// Server to client: the answer to SUBSCRIBE.
    Suback(Suback<'a>),
    /// Client to server: removes subscriptions.
    Unsubscribe(Unsubscribe<'a>),
    /// Server to client: the answer to UNSUBSCRIBE.
    Unsuback(Unsuback<'a>),
    /// Client to server: are you there?
    Pingreq,
    /// Server to client: the answer to PINGREQ.
    Pingresp,
    /// Ends the connection.
    Disconnect(Disconnect<'a>),
    /// 5.0: a step of enhanced authentication.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// The type of this packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// The part of a packet after its fixed header, as it is written.
trait Body {
    /// Describes the body, field by field, and whatever keeps it from being written.
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink);
}

/// Reads a packet identifier [MQTT-2.2.1-3].
fn packet_id(input: &[u8], packet: PacketType) -> Parsed<'_, u16> {
    match read::two_bytes(input, "packet identifier")? {
        (_, 0) => Err(fail(DecodeError::ZeroPacketId { packet })),
        parsed => Ok(parsed),
    }
}

/// Reads the reason codes that are the payload of SUBACK and UNSUBACK.
fn reasons(
    codes: &[u8],
    packet: PacketType,
    is_legal: impl Fn(ReasonCode) -> bool,
) -> Result<Vec<ReasonCode>, DecodeError> {
    codes
        .iter()
        .map(|&got| {
            ReasonCode::from_u8(got)
                .filter(|&code| is_legal(code))
                .ok_or(DecodeError::ReasonCode { packet, got })
        })
        .collect()
}
