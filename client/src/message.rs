//! Messages and their properties, owned: what a caller hands over to be published, and what it gets.

use bytes::Bytes;
use nightjar_mqtt::QoS;
use nightjar_mqtt::packet::{
    PayloadFormat, Publish, PublishProperties, UserProperties, Will, WillProperties,
};

/// An application message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// The topic name. In a received message never empty: aliases are resolved.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The QoS.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// Received messages: sent before, perhaps.
    pub dup: bool,
    /// Received messages: the packet identifier, with QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// 5.0: the properties.
    pub properties: MessageProperties,
}

/// The 5.0 properties of a message or a will.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Whether the payload is UTF-8.
    pub payload_format: Option<PayloadFormat>,
    /// Lifetime in seconds.
    pub message_expiry: Option<u32>,
    /// The alias to use in place of the topic name; the caller keeps to the broker's maximum.
    pub topic_alias: Option<u16>,
    /// Where a response is to go.
    pub response_topic: Option<String>,
    /// What relates a response to its request.
    pub correlation_data: Option<Bytes>,
    /// Received messages: identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<u32>,
    /// What the payload is.
    pub content_type: Option<String>,
    /// User properties in order.
    pub user_properties: Vec<(String, String)>,
    /// Wills only: seconds between the end of the connection and the publication.
    pub will_delay: Option<u32>,
}

impl Message {
    /// A message with QoS 0, not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// The same with another QoS.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// The same with the retain flag as given.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// The same with these properties.
    pub fn properties(mut self, properties: MessageProperties) -> Self {
        self.properties = properties;
        self
    }

    /// The packet that carries this message.
    pub(crate) fn to_publish(&self, packet_id: Option<u16>, dup: bool) -> Publish<'_> {
        let properties = &self.properties;
        Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id,
            properties: PublishProperties {
                payload_format_indicator: properties.payload_format,
                message_expiry_interval: properties.message_expiry,
                topic_alias: properties.topic_alias,
                response_topic: properties.response_topic.as_deref(),
                correlation_data: properties.correlation_data.as_deref(),
                user_properties: borrow(&properties.user_properties),
                subscription_identifiers: properties.subscription_ids.clone(),
                content_type: properties.content_type.as_deref(),
            },
            payload: &self.payload,
        }
    }

    /// The will of a CONNECT.
    pub(crate) fn to_will(&self) -> Will<'_> {
        let properties = &self.properties;
        Will {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: WillProperties {
                will_delay_interval: properties.will_delay,
                payload_format_indicator: properties.payload_format,
                message_expiry_interval: properties.message_expiry,
                content_type: properties.content_type.as_deref(),
                response_topic: properties.response_topic.as_deref(),
                correlation_data: properties.correlation_data.as_deref(),
                user_properties: borrow(&properties.user_properties),
            },
        }
    }

    /// Copies a packet; `topic` is its topic name after aliases.
    pub(crate) fn from_publish(publish: &Publish<'_>, topic: &str) -> Self {
        let properties = &publish.properties;
        Self {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            properties: MessageProperties {
                payload_format: properties.payload_format_indicator,
                message_expiry: properties.message_expiry_interval,
                topic_alias: properties.topic_alias,
                response_topic: properties.response_topic.map(str::to_owned),
                correlation_data: properties.correlation_data.map(Bytes::copy_from_slice),
                subscription_ids: properties.subscription_identifiers.clone(),
                content_type: properties.content_type.map(str::to_owned),
                user_properties: properties
                    .user_properties
                    .iter()
                    .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                will_delay: None,
            },
        }
    }
}

/// Owned user properties as the codec takes them.
pub(crate) fn borrow(pairs: &[(String, String)]) -> UserProperties<'_> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}
