//! CONNECT: the client asks for a connection (section 3.1).

use super::{PayloadFormat, UserProperties};
use crate::{ProtocolVersion, QoS};

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
