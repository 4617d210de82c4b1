//! The one internal message model: what a PUBLISH of any protocol becomes, and what every delivery is made from.

use std::fmt;
use std::sync::Arc;

use nightjar_mqtt::{QoS, TopicName};
use triomphe::ThinArc;

use crate::time::Timestamp;

/// The properties of a message that travel from publisher to subscriber unchanged
/// ([MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Payload Format Indicator, if the publisher gave one.
    pub payload_format: Option<u8>,
    /// Content Type.
    pub content_type: Option<Box<str>>,
    /// Response Topic.
    pub response_topic: Option<Box<str>>,
    /// Correlation Data.
    pub correlation_data: Option<Box<[u8]>>,
    /// User Properties, in the publisher's order [MQTT-3.3.2-18].
    pub user_properties: Vec<(Box<str>, Box<str>)>,
}

impl MessageProperties {
    /// True if no property is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// Everything of a message but its payload.
#[derive(Debug, Clone)]
pub struct MessageHead {
    /// Topic name, complete (aliases are resolved before).
    pub topic: TopicName,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// Retain flag of the PUBLISH.
    pub retain: bool,
    /// Client identifier of the publisher; `None` for messages of the broker itself.
    pub publisher: Option<Arc<str>>,
    /// When the broker took it.
    pub received_at: Timestamp,
    /// When it expires [MQTT-3.3.2-5]; `None` means never.
    pub expires_at: Option<Timestamp>,
    /// Forwarded properties; `None` if there are none.
    pub properties: Option<Box<MessageProperties>>,
}

/// An immutable message, cheap to clone: head and payload live in one reference-counted allocation.
#[derive(Clone)]
pub struct Message(ThinArc<MessageHead, u8>);

impl Message {
    /// Makes a message; this copies the payload, the only copy on the way in.
    #[must_use]
    pub fn new(head: MessageHead, payload: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice(head, payload))
    }

    /// The head.
    #[must_use]
    #[inline]
    pub fn head(&self) -> &MessageHead {
        &self.0.header.header
    }

    /// Topic name.
    #[must_use]
    #[inline]
    pub fn topic(&self) -> &TopicName {
        &self.head().topic
    }

    /// Payload.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.slice
    }

    /// QoS of the PUBLISH.
    #[must_use]
    #[inline]
    pub fn qos(&self) -> QoS {
        self.head().qos
    }

    /// Retain flag of the PUBLISH.
    #[must_use]
    #[inline]
    pub fn retain(&self) -> bool {
        self.head().retain
    }

    /// Forwarded properties.
    #[must_use]
    #[inline]
    pub fn properties(&self) -> Option<&MessageProperties> {
        self.head().properties.as_deref()
    }

    /// Has its message expiry interval passed [MQTT-3.3.2-5]?
    #[must_use]
    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.head().expires_at.is_some_and(|at| at <= now)
    }

    /// Message Expiry Interval to forward: seconds left, rounded up so that a live message never says 0
    /// [MQTT-3.3.2-6]. `None` if the publisher gave none.
    #[must_use]
    pub fn expiry_left(&self, now: Timestamp) -> Option<u32> {
        self.head()
            .expires_at
            .map(|at| u32::try_from(at.since(now).div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// Bytes it is counted with against queue limits: payload, topic and a fixed part for the head.
    #[must_use]
    #[inline]
    pub fn cost(&self) -> usize {
        self.payload().len() + self.topic().len() + 64
    }

    /// Where it lies: equal for clones of one message, and for nothing else as long as one of them lives.
    #[must_use]
    pub fn address(&self) -> usize {
        std::ptr::from_ref(self.head()) as usize
    }

    /// Did this client publish it?
    #[must_use]
    #[inline]
    pub fn is_from(&self, client_id: &str) -> bool {
        self.head().publisher.as_deref() == Some(client_id)
    }

    /// Are both the same message (not merely equal)?
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self.head(), other.head())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("head", self.head())
            .field("payload_len", &self.payload().len())
            .finish()
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.head(), other.head());
        a.topic == b.topic
            && a.qos == b.qos
            && a.retain == b.retain
            && a.publisher == b.publisher
            && a.received_at == b.received_at
            && a.expires_at == b.expires_at
            && a.properties == b.properties
            && self.payload() == other.payload()
    }
}

impl Eq for Message {}
