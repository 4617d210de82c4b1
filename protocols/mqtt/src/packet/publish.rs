//! PUBLISH: a message (section 3.3).

use super::UserProperties;
use crate::QoS;

/// PUBLISH.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publish<'a> {
    /// Sent before, perhaps. False with QoS 0 [MQTT-3.3.1-2], but for lenient decoding of 3.x.
    pub dup: bool,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// The topic name; empty only in 5.0 and only with a topic alias.
    pub topic: &'a str,
    /// The packet identifier, never 0: there with QoS 1 and 2 only [MQTT-2.2.1-2].
    pub packet_id: Option<u16>,
    /// 5.0: the properties.
    pub properties: PublishProperties<'a>,
    /// The payload, perhaps empty.
    pub payload: &'a [u8],
}

/// The properties of PUBLISH. An empty one costs no allocation, nor does one without user properties and subscription
/// identifiers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishProperties<'a> {
    /// Whether the payload is UTF-8. Forwarded unaltered [MQTT-3.3.2-4].
    pub payload_format_indicator: Option<PayloadFormat>,
    /// Lifetime of the message in seconds; absent: no end.
    pub message_expiry_interval: Option<u32>,
    /// A number that stands for the topic in this connection and direction, never 0.
    pub topic_alias: Option<u16>,
    /// Where a response is to go: a topic name. Forwarded unaltered [MQTT-3.3.2-15].
    pub response_topic: Option<&'a str>,
    /// What relates a response to its request. Forwarded unaltered [MQTT-3.3.2-16].
    pub correlation_data: Option<&'a [u8]>,
    /// User properties, forwarded unaltered and in order [MQTT-3.3.2-17] [MQTT-3.3.2-18].
    pub user_properties: UserProperties<'a>,
    /// Identifiers of the subscriptions that matched, 1 to 268,435,455. Server to client only [MQTT-3.3.4-6].
    pub subscription_identifiers: Vec<u32>,
    /// What the payload is. Forwarded unaltered [MQTT-3.3.2-20].
    pub content_type: Option<&'a str>,
}

/// What the payload format indicator says about a payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormat {
    /// Bytes of any kind.
    #[default]
    Unspecified = 0,
    /// UTF-8 text. Whether it really is, is not checked here.
    Utf8 = 1,
}
