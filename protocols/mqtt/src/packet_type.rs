//! Control packet types: the high four bits of the first byte.

use std::fmt;

/// A control packet type (section 2.1.2 of 5.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Client to server: the first packet of a connection.
    Connect = 1,
    /// Server to client: the answer to CONNECT.
    Connack = 2,
    /// Both directions: a message.
    Publish = 3,
    /// Both directions: acknowledges a QoS 1 PUBLISH.
    Puback = 4,
    /// Both directions: QoS 2, step one.
    Pubrec = 5,
    /// Both directions: QoS 2, step two.
    Pubrel = 6,
    /// Both directions: QoS 2, step three.
    Pubcomp = 7,
    /// Client to server: asks for subscriptions.
    Subscribe = 8,
    /// Server to client: the answer to SUBSCRIBE.
    Suback = 9,
    /// Client to server: removes subscriptions.
    Unsubscribe = 10,
    /// Server to client: the answer to UNSUBSCRIBE.
    Unsuback = 11,
    /// Client to server: are you there?
    Pingreq = 12,
    /// Server to client: the answer to PINGREQ.
    Pingresp = 13,
    /// From the client; in 5.0 from both: ends the connection.
    Disconnect = 14,
    /// 5.0, both directions: a step of enhanced authentication.
    Auth = 15,
}

impl PacketType {
    /// The type with this number, `None` for 0 and above 15. 15 exists in 5.0 only.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The number on the wire, 1 to 15, before it is shifted into the first byte.
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// The name in the standard's capitals, as in "PUBLISH".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
