//! Between PUBLISH on the wire and the broker's message.

use std::sync::Arc;

use nightjar_broker::{Message, MessageHead, MessageProperties, Timestamp};
use nightjar_mqtt::packet::{ForwardedProperties, PayloadFormat, Publish, PublishProperties, Will};
use nightjar_mqtt::{EncodeError, TopicName};

/// Earlier of the publisher's Message Expiry Interval and the cap of the configuration, as seconds.
pub fn expiry(asked: Option<u32>, cap: Option<u32>) -> Option<u32> {
    match (asked, cap) {
        (Some(asked), Some(cap)) => Some(asked.min(cap)),
        (asked, cap) => asked.or(cap),
    }
}

fn properties(from: &PublishProperties<'_>) -> Option<Box<MessageProperties>> {
    if !from.has_forwarded() {
        return None;
    }
    Some(Box::new(MessageProperties {
        payload_format: from.payload_format_indicator.map(|format| format as u8),
        content_type: from.content_type.map(Into::into),
        response_topic: from.response_topic.map(Into::into),
        correlation_data: from.correlation_data.map(Into::into),
        user_properties: from
            .user_properties
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
    }))
}

/// The broker's message of a PUBLISH.
pub fn of_publish(
    publish: &Publish<'_>,
    topic: TopicName,
    publisher: &Arc<str>,
    cap: Option<u32>,
    now: Timestamp,
) -> Message {
    let expiry = expiry(publish.properties.message_expiry_interval, cap);
    let head = MessageHead {
        topic,
        qos: publish.qos,
        retain: publish.retain,
        publisher: Some(publisher.clone()),
        received_at: now,
        expires_at: expiry.map(|seconds| now.plus_secs(u64::from(seconds))),
        properties: properties(&publish.properties),
    };
    Message::new(head, publish.payload)
}

/// The broker's will of a CONNECT.
pub fn of_will(
    will: &Will<'_>,
    topic: TopicName,
    publisher: &Arc<str>,
    cap: Option<u32>,
    now: Timestamp,
) -> nightjar_broker::shard::Will {
    let from = &will.properties;
    let forwarded = PublishProperties {
        payload_format_indicator: from.payload_format_indicator,
        response_topic: from.response_topic,
        correlation_data: from.correlation_data,
        user_properties: from.user_properties.clone(),
        content_type: from.content_type,
        ..PublishProperties::default()
    };
    let head = MessageHead {
        topic,
        qos: will.qos,
        retain: will.retain,
        publisher: Some(publisher.clone()),
        received_at: now,
        expires_at: None,
        properties: properties(&forwarded),
    };
    nightjar_broker::shard::Will {
        message: Message::new(head, will.payload),
        delay: from.will_delay_interval.unwrap_or(0),
        expiry: expiry(from.message_expiry_interval, cap),
    }
}

/// Writes the properties that travel unchanged in wire form.
pub fn encode_forwarded(from: &MessageProperties, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    ForwardedProperties {
        payload_format_indicator: match from.payload_format {
            Some(1) => Some(PayloadFormat::Utf8),
            Some(_) => Some(PayloadFormat::Unspecified),
            None => None,
        },
        response_topic: from.response_topic.as_deref(),
        correlation_data: from.correlation_data.as_deref(),
        user_properties: from
            .user_properties
            .iter()
            .map(|(key, value)| (&**key, &**value)),
        content_type: from.content_type.as_deref(),
    }
    .encode(out)
}
