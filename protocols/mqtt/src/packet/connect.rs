//! CONNECT: the client asks for a connection (section 3.1).

use super::{Body, PayloadFormat, UserProperties};
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::{self, Sink};
use crate::{
    BRIDGE_BIT, DecodeError, EncodeError, PacketType, ProtocolVersion, QoS, validate_topic_name,
};

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect<'a> {
    /// The version, from protocol name and level.
    pub version: ProtocolVersion,
    /// 3.x: the sender set the bridge bit of the level byte ([`crate::BRIDGE_BIT`]).
    pub bridge: bool,
    /// Clean Start; Clean Session in 3.x.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The client identifier, perhaps empty: what an empty one means differs by version and is the server's decision.
    pub client_id: &'a str,
    /// The will, if the will flag is set.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password: binary data, without a user name only in 5.0.
    pub password: Option<&'a [u8]>,
    /// 5.0: the properties.
    pub properties: ConnectProperties<'a>,
}

/// The properties of CONNECT. `None`: the client did not send it and the standard's default counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectProperties<'a> {
    /// Seconds the session lives after the connection; absent 0, 0xFFFF_FFFF never expires.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages the client handles at once, never 0; absent 65,535.
    pub receive_maximum: Option<u16>,
    /// Largest packet in bytes the client accepts, never 0; absent: no limit but the protocol's.
    pub maximum_packet_size: Option<u32>,
    /// Highest topic alias the client accepts; absent 0.
    pub topic_alias_maximum: Option<u16>,
    /// The client asks for response information in CONNACK; absent false.
    pub request_response_information: Option<bool>,
    /// The client wants reason strings and user properties on failures; absent true.
    pub request_problem_information: Option<bool>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of that method; only with a method.
    pub authentication_data: Option<&'a [u8]>,
}

/// The will message of a CONNECT.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Will<'a> {
    /// The topic name.
    pub topic: &'a str,
    /// The payload, perhaps empty.
    pub payload: &'a [u8],
    /// The QoS to publish with.
    pub qos: QoS,
    /// Publish it as a retained message.
    pub retain: bool,
    /// 5.0: the properties.
    pub properties: WillProperties<'a>,
}

/// The properties of a will.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WillProperties<'a> {
    /// Seconds between the end of the connection and the publication; absent 0.
    pub will_delay_interval: Option<u32>,
    /// Whether the payload is UTF-8.
    pub payload_format_indicator: Option<PayloadFormat>,
    /// Lifetime of the message in seconds from its publication; absent: no end.
    pub message_expiry_interval: Option<u32>,
    /// What the payload is, in words of the application.
    pub content_type: Option<&'a str>,
    /// Where a response is to go: a topic name.
    pub response_topic: Option<&'a str>,
    /// What relates a response to its request.
    pub correlation_data: Option<&'a [u8]>,
    /// User properties, kept in order [MQTT-3.1.3-10].
    pub user_properties: UserProperties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with a client identifier and nothing else.
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Decodes the body of a CONNECT.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        match Self::parse(body).map_err(unwrap_error)? {
            ([], connect) => Ok(connect),
            (rest, _) => Err(DecodeError::TrailingBytes {
                packet: PacketType::Connect,
                got: rest.len(),
            }),
        }
    }

    fn parse(input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, (version, bridge)) = protocol(input)?;
        let (input, flags) = read::byte(input, "connect flags")?;
        let will_qos = check_flags(version, flags).map_err(fail)?;
        let (input, keep_alive) = read::two_bytes(input, "keep alive")?;
        let (input, properties) = if version.is_v5() {
            let (input, section) = read::property_section(input)?;
            (input, ConnectProperties::parse(section).map_err(fail)?)
        } else {
            (input, ConnectProperties::default())
        };
        let (input, client_id) = read::string(input, "client identifier")?;
        let (input, will) = if flags & WILL != 0 {
            let (input, will) = Will::parse(input, version, will_qos, flags & WILL_RETAIN != 0)?;
            (input, Some(will))
        } else {
            (input, None)
        };
        let (input, username) = if has(flags, USER_NAME, version, input) {
            let (input, username) = read::string(input, "user name")?;
            (input, Some(username))
        } else {
            (input, None)
        };
        let (input, password) = if has(flags, PASSWORD, version, input) {
            let (input, password) = read::binary(input, "password")?;
            (input, Some(password))
        } else {
            (input, None)
        };
        let clean_start = flags & CLEAN_START != 0;
        Ok((
            input,
            Self {
                version,
                bridge,
                clean_start,
                keep_alive,
                client_id,
                will,
                username,
                password,
                properties,
            },
        ))
    }
}

/// Whether a field that the connect flags announce is there.
///
/// In 3.1 the remaining length takes precedence: a set flag without the field is valid, because the first edition of
/// that version had no user names (section 3.1 of 3.1, "User name and password flags").
fn has(flags: u8, flag: u8, version: ProtocolVersion, input: &[u8]) -> bool {
    flags & flag != 0 && !(version == ProtocolVersion::V31 && input.is_empty())
}

/// Protocol name and level.
fn protocol<'a>(input: &'a [u8]) -> Parsed<'a, (ProtocolVersion, bool)> {
    let (input, name) = read::binary(input, "protocol name")?;
    let (input, level) = read::byte(input, "protocol level")?;
    let version = match (name, level & !BRIDGE_BIT) {
        (b"MQIsdp", 3) => ProtocolVersion::V31,
        (b"MQTT", 4) => ProtocolVersion::V311,
        (b"MQTT", 5) if level == 5 => ProtocolVersion::V5,
        (b"MQIsdp" | b"MQTT", _) => return Err(fail(DecodeError::ProtocolLevel(level))),
        _ => return Err(fail(DecodeError::ProtocolName)),
    };
    Ok((input, (version, level & BRIDGE_BIT != 0)))
}

/// Checks the connect flags and returns the will QoS.
fn check_flags(version: ProtocolVersion, flags: u8) -> Result<QoS, DecodeError> {
    let wrong = |expected| DecodeError::ConnectFlags {
        expected,
        got: flags,
    };
    let will_qos = flags >> 3 & 0b11;
    if flags & WILL != 0 {
        if will_qos == 3 {
            return Err(wrong("will QoS 0, 1 or 2 [MQTT-3.1.2-12]"));
        }
    } else if version != ProtocolVersion::V31 {
        // 3.1 calls these bits unused without a will.
        if will_qos != 0 {
            return Err(wrong("will QoS 0 without a will [MQTT-3.1.2-11]"));
        }
        if flags & WILL_RETAIN != 0 {
            return Err(wrong("will retain 0 without a will [MQTT-3.1.2-13]"));
        }
    }
    if flags & RESERVED != 0 && version != ProtocolVersion::V31 {
        return Err(wrong("reserved bit 0 [MQTT-3.1.2-3]"));
    }
    if !version.is_v5() && flags & (USER_NAME | PASSWORD) == PASSWORD {
        return Err(wrong("no password without a user name [MQTT-3.1.2-22]"));
    }
    Ok(QoS::from_bits(will_qos).unwrap_or_default())
}

/// The version to answer a CONNECT in that could not be decoded, from what there is of it; `None` if the bytes do not
/// say so or are no CONNECT of this protocol.
///
/// A known name with an unknown level answers as the standards want: up to level 4 as 3.1.1 (return code 0x01), above as
/// 5.0 (reason code 0x84) [MQTT-3.1.2-2].
pub fn peek_connect_version(buf: &[u8]) -> Option<ProtocolVersion> {
    let (&first, rest) = buf.split_first()?;
    if first >> 4 != PacketType::Connect.bits() {
        return None;
    }
    // Whatever the length says, even in a form that is itself the error.
    let last = rest.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    let body = &rest[last + 1..];
    match protocol(body) {
        Ok((_, (version, _))) => Some(version),
        Err(nom::Err::Error(DecodeError::ProtocolLevel(level))) if level & !BRIDGE_BIT <= 4 => {
            Some(ProtocolVersion::V311)
        }
        Err(nom::Err::Error(DecodeError::ProtocolLevel(_))) => Some(ProtocolVersion::V5),
        Err(_) => None,
    }
}

impl<'a> Will<'a> {
    fn parse(
        input: &'a [u8],
        version: ProtocolVersion,
        qos: QoS,
        retain: bool,
    ) -> Parsed<'a, Self> {
        let (input, properties) = if version.is_v5() {
            let (input, section) = read::property_section(input)?;
            (input, WillProperties::parse(section).map_err(fail)?)
        } else {
            (input, WillProperties::default())
        };
        let (input, topic) = read::string(input, "will topic")?;
        validate_topic_name(topic).map_err(|error| fail(DecodeError::TopicName(error)))?;
        let (input, payload) = read::binary(input, "will payload")?;
        Ok((
            input,
            Self {
                topic,
                payload,
                qos,
                retain,
                properties,
            },
        ))
    }
}

impl<'a> ConnectProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(PacketType::Connect, section, |property| match property {
            Property::SessionExpiryInterval(v) => once(&mut p.session_expiry_interval, v),
            Property::ReceiveMaximum(v) => once(&mut p.receive_maximum, v),
            Property::MaximumPacketSize(v) => once(&mut p.maximum_packet_size, v),
            Property::TopicAliasMaximum(v) => once(&mut p.topic_alias_maximum, v),
            Property::RequestResponseInformation(v) => once(&mut p.request_response_information, v),
            Property::RequestProblemInformation(v) => once(&mut p.request_problem_information, v),
            Property::User(v) => many(&mut p.user_properties, v),
            Property::AuthenticationMethod(v) => once(&mut p.authentication_method, v),
            Property::AuthenticationData(v) => once(&mut p.authentication_data, v),
            _ => Slot::Unexpected,
        })?;
        if p.authentication_data.is_some() && p.authentication_method.is_none() {
            return Err(DecodeError::NoAuthenticationMethod {
                packet: PacketType::Connect,
            });
        }
        Ok(p)
    }
}

impl WriteProperties for ConnectProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.session_expiry_interval
            .map(Property::SessionExpiryInterval)
            .map(&mut write);
        self.receive_maximum
            .map(Property::ReceiveMaximum)
            .map(&mut write);
        self.maximum_packet_size
            .map(Property::MaximumPacketSize)
            .map(&mut write);
        self.topic_alias_maximum
            .map(Property::TopicAliasMaximum)
            .map(&mut write);
        self.request_response_information
            .map(Property::RequestResponseInformation)
            .map(&mut write);
        self.request_problem_information
            .map(Property::RequestProblemInformation)
            .map(&mut write);
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(&mut write);
        self.authentication_method
            .map(Property::AuthenticationMethod)
            .map(&mut write);
        self.authentication_data
            .map(Property::AuthenticationData)
            .map(&mut write);
    }
}

impl<'a> WillProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(PacketType::Connect, section, |property| match property {
            Property::WillDelayInterval(v) => once(&mut p.will_delay_interval, v),
            Property::PayloadFormatIndicator(v) => once(&mut p.payload_format_indicator, v),
            Property::MessageExpiryInterval(v) => once(&mut p.message_expiry_interval, v),
            Property::ContentType(v) => once(&mut p.content_type, v),
            Property::ResponseTopic(v) => once(&mut p.response_topic, v),
            Property::CorrelationData(v) => once(&mut p.correlation_data, v),
            Property::User(v) => many(&mut p.user_properties, v),
            _ => Slot::Unexpected,
        })?;
        if let Some(topic) = p.response_topic {
            validate_topic_name(topic).map_err(DecodeError::ResponseTopic)?;
        }
        Ok(p)
    }
}

impl WriteProperties for WillProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.will_delay_interval
            .map(Property::WillDelayInterval)
            .map(&mut write);
        self.payload_format_indicator
            .map(Property::PayloadFormatIndicator)
            .map(&mut write);
        self.message_expiry_interval
            .map(Property::MessageExpiryInterval)
            .map(&mut write);
        self.content_type.map(Property::ContentType).map(&mut write);
        self.response_topic
            .map(Property::ResponseTopic)
            .map(&mut write);
        self.correlation_data
            .map(Property::CorrelationData)
            .map(&mut write);
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(&mut write);
    }
}

impl Body for Connect<'_> {
    /// The packet's own version counts, not the connection's: there is none yet.
    fn write(&self, _: ProtocolVersion, sink: &mut impl Sink) {
        let version = self.version;
        write::string(sink, "protocol name", version.protocol_name());
        let bridge = if self.bridge && !version.is_v5() {
            BRIDGE_BIT
        } else {
            0
        };
        sink.put(&[version.level() | bridge]);
        let flags = self.flags(sink);
        sink.put(&[flags]);
        write::two_bytes(sink, self.keep_alive);
        if version.is_v5() {
            self.properties.write(sink);
        }
        write::string(sink, "client identifier", self.client_id);
        if let Some(will) = &self.will {
            if version.is_v5() {
                will.properties.write(sink);
            }
            write::string(sink, "will topic", will.topic);
            write::binary(sink, "will payload", will.payload);
        }
        if let Some(username) = self.username {
            write::string(sink, "user name", username);
        }
        if let Some(password) = self.password {
            write::binary(sink, "password", password);
        }
    }
}

impl Connect<'_> {
    fn flags(&self, sink: &mut impl Sink) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.bits() << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
            if self.username.is_none() && !self.version.is_v5() {
                sink.fail(EncodeError::Value {
                    field: "password",
                    expected: "a user name with it",
                    got: 0,
                });
            }
        }
        flags
    }
}
