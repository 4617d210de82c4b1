//! What a session refuses to send, and what it refuses to take.

use nightjar_mqtt::{DecodeError, EncodeError, PacketType, QoS, ReasonCode};

/// A packet that must not be sent now, or should not have come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The broker sent bytes that are no packet.
    #[error("malformed packet from the broker: {0}")]
    Decode(#[from] DecodeError),
    /// A value given by the caller does not fit into a packet.
    #[error("cannot send: {0}")]
    Encode(#[from] EncodeError),
    /// The broker sent a packet where it may not.
    #[error("{0} from the broker where it may not come")]
    Unexpected(PacketType),
    /// As many QoS 1 and 2 messages are in flight as the broker or the options allow.
    #[error("{0} messages in flight, as many as allowed")]
    WindowFull(u16),
    /// All packet identifiers are in use.
    #[error("all 65535 packet identifiers are in use")]
    NoPacketId,
    /// The packet is larger than the broker announced to accept [MQTT-3.2.2-15].
    #[error("the broker accepts packets of at most {max} bytes, this one has {got}")]
    TooLarge {
        /// Announced in CONNACK.
        max: u32,
        /// The packet's size.
        got: usize,
    },
    /// A QoS above the one announced [MQTT-3.2.2-11].
    #[error("the broker accepts at most QoS {max}, this message has QoS {got}")]
    QosNotSupported {
        /// Announced in CONNACK.
        max: QoS,
        /// Asked for.
        got: QoS,
    },
    /// The broker announced to have no retained messages [MQTT-3.2.2-14].
    #[error("the broker has no retained messages")]
    RetainNotSupported,
    /// A topic alias above what the broker announced, or 0 [MQTT-3.2.2-18].
    #[error("the broker accepts topic aliases up to {max}, this message has {got}")]
    AliasTooHigh {
        /// Announced in CONNACK.
        max: u16,
        /// Asked for.
        got: u16,
    },
    /// The broker used a topic alias above ours, or one it never set.
    #[error("the broker used topic alias {0}, which it never set or may not use")]
    AliasInvalid(u16),
    /// The broker has more messages in flight towards us than we allow [MQTT-3.3.4-9].
    #[error("the broker sent more than {0} unacknowledged messages")]
    ReceiveMaximumExceeded(u16),
}

impl SessionError {
    /// The exit code of `pub` and `sub`, in Mosquitto's numbers: 2 a broken protocol, 24 and 25 a QoS
    /// or a packet the broker does not take.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::QosNotSupported { .. } => 24,
            Self::TooLarge { .. } => 25,
            Self::RetainNotSupported => 28,
            Self::Decode(_) | Self::Unexpected(_) | Self::AliasInvalid(_) => 2,
            Self::ReceiveMaximumExceeded(_) => 2,
            _ => 1,
        }
    }

    /// What to tell a 5.0 broker in DISCONNECT, where it is the broker's fault.
    pub fn reason_code(&self) -> Option<ReasonCode> {
        match self {
            Self::Decode(error) => Some(error.reason_code()),
            Self::Unexpected(_) => Some(ReasonCode::ProtocolError),
            Self::AliasInvalid(_) => Some(ReasonCode::TopicAliasInvalid),
            Self::ReceiveMaximumExceeded(_) => Some(ReasonCode::ReceiveMaximumExceeded),
            _ => None,
        }
    }
}
