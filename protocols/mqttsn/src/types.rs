//! Field types of section 5.3 but the Flags octet.

use std::fmt;

/// The only ProtocolId of MQTT-SN 1.2 (section 5.3.8).
pub const PROTOCOL_ID: u8 = 0x01;

macro_rules! msg_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// MsgType of the header (section 5.2.2, table 3): all 28 that are not reserved.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum MsgType {
            $($(#[$doc])* $name = $code,)*
        }

        impl MsgType {
            /// All message types, by code.
            pub const ALL: [MsgType; 28] = [$(MsgType::$name,)*];

            /// The type with this code; `None` if it is reserved (0x03, 0x11, 0x19, 0x1E-0xFD, 0xFF).
            pub const fn from_code(code: u8) -> Option<MsgType> {
                match code {
                    $($code => Some(MsgType::$name),)*
                    _ => None,
                }
            }

            /// The standard's name, such as `WILLTOPICREQ`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(MsgType::$name => $text,)*
                }
            }
        }
    };
}

msg_types! {
    /// Gateway, broadcast: here I am (5.4.1).
    Advertise = 0x00, "ADVERTISE";
    /// Client, broadcast: who is a gateway? (5.4.2)
    SearchGw = 0x01, "SEARCHGW";
    /// Answer to SEARCHGW (5.4.3).
    GwInfo = 0x02, "GWINFO";
    /// Client: set up a connection (5.4.4).
    Connect = 0x04, "CONNECT";
    /// Answer to CONNECT (5.4.5).
    ConnAck = 0x05, "CONNACK";
    /// Gateway asks for the will topic (5.4.6).
    WillTopicReq = 0x06, "WILLTOPICREQ";
    /// Client gives the will topic (5.4.7).
    WillTopic = 0x07, "WILLTOPIC";
    /// Gateway asks for the will message (5.4.8).
    WillMsgReq = 0x08, "WILLMSGREQ";
    /// Client gives the will message (5.4.9).
    WillMsg = 0x09, "WILLMSG";
    /// Ties a topic name to a topic id (5.4.10).
    Register = 0x0A, "REGISTER";
    /// Answer to REGISTER (5.4.11).
    RegAck = 0x0B, "REGACK";
    /// A message of a topic (5.4.12).
    Publish = 0x0C, "PUBLISH";
    /// Answer to PUBLISH of QoS 1, or the refusal of a PUBLISH of any QoS (5.4.13).
    PubAck = 0x0D, "PUBACK";
    /// QoS 2, third step (5.4.14).
    PubComp = 0x0E, "PUBCOMP";
    /// QoS 2, first step (5.4.14).
    PubRec = 0x0F, "PUBREC";
    /// QoS 2, second step (5.4.14).
    PubRel = 0x10, "PUBREL";
    /// Client subscribes (5.4.15).
    Subscribe = 0x12, "SUBSCRIBE";
    /// Answer to SUBSCRIBE (5.4.16).
    SubAck = 0x13, "SUBACK";
    /// Client unsubscribes (5.4.17).
    Unsubscribe = 0x14, "UNSUBSCRIBE";
    /// Answer to UNSUBSCRIBE (5.4.18).
    UnsubAck = 0x15, "UNSUBACK";
    /// Are you there; with a client id: I am awake (5.4.19).
    PingReq = 0x16, "PINGREQ";
    /// Answer to PINGREQ (5.4.20).
    PingResp = 0x17, "PINGRESP";
    /// End of the connection, or begin of sleep (5.4.21).
    Disconnect = 0x18, "DISCONNECT";
    /// Client changes its will topic (5.4.22).
    WillTopicUpd = 0x1A, "WILLTOPICUPD";
    /// Answer to WILLTOPICUPD (5.4.24).
    WillTopicResp = 0x1B, "WILLTOPICRESP";
    /// Client changes its will message (5.4.23).
    WillMsgUpd = 0x1C, "WILLMSGUPD";
    /// Answer to WILLMSGUPD (5.4.25).
    WillMsgResp = 0x1D, "WILLMSGRESP";
    /// A message that a forwarder passes on (5.5).
    Encapsulated = 0xFE, "Encapsulated message";
}

impl MsgType {
    /// The octet on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for MsgType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// ReturnCode (section 5.3.10). A reserved code (4-255) is kept as it came: it is a refusal like any other that is not
/// [`ReturnCode::ACCEPTED`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReturnCode(pub u8);

impl ReturnCode {
    /// Accepted.
    pub const ACCEPTED: ReturnCode = ReturnCode(0x00);
    /// Rejected: congestion. The client is to try again after T_WAIT (section 7.2: more than 5 minutes).
    pub const CONGESTION: ReturnCode = ReturnCode(0x01);
    /// Rejected: invalid topic id.
    pub const INVALID_TOPIC_ID: ReturnCode = ReturnCode(0x02);
    /// Rejected: not supported.
    pub const NOT_SUPPORTED: ReturnCode = ReturnCode(0x03);

    /// True for [`ReturnCode::ACCEPTED`] alone.
    pub const fn is_accepted(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ReturnCode::ACCEPTED => f.write_str("accepted"),
            ReturnCode::CONGESTION => f.write_str("rejected: congestion"),
            ReturnCode::INVALID_TOPIC_ID => f.write_str("rejected: invalid topic id"),
            ReturnCode::NOT_SUPPORTED => f.write_str("rejected: not supported"),
            ReturnCode(code) => write!(f, "rejected: reserved code {code:#04x}"),
        }
    }
}

impl fmt::Debug for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReturnCode({:#04x}: {self})", self.0)
    }
}

/// The topic of a PUBLISH: always 2 octets on the wire, read by the TopicIdType (sections 5.3.11 and 6.7). Predefined
/// ids have a number space of their own: normal id 7 and predefined id 7 may be two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublishTopic {
    /// An id that REGISTER, REGACK or SUBACK gave. 0x0000 and 0xFFFF are reserved and come to the caller as they are.
    Normal(u16),
    /// An id known to both ends beforehand.
    Predefined(u16),
    /// The topic name itself, exactly 2 octets, not checked to be UTF-8.
    Short([u8; 2]),
}

impl PublishTopic {
    /// The 2 octets as a number: what PUBACK carries as its TopicId, whatever the type.
    pub const fn raw(self) -> u16 {
        match self {
            PublishTopic::Normal(id) | PublishTopic::Predefined(id) => id,
            PublishTopic::Short(name) => u16::from_be_bytes(name),
        }
    }
}

/// The topic at the end of SUBSCRIBE and UNSUBSCRIBE (sections 5.4.15 and 5.4.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterOrId<'a> {
    /// A topic name, or a topic filter with wildcards; UTF-8, otherwise not checked.
    Name(&'a str),
    /// A predefined topic id.
    Predefined(u16),
    /// A short topic name, exactly 2 octets, not checked to be UTF-8.
    Short([u8; 2]),
}
