//! PUBLISH: a message (section 3.3).

use super::{Body, Packet, UserProperties, WillProperties};
use crate::decoder::{Context, Role};
use crate::topic::{TopicError, is_plain, validate_topic_name};
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, unwrap_error};
use crate::wire::write::{self, Count, Sink};
use crate::{DecodeError, Decoded, EncodeError, PacketType, ProtocolVersion, QoS};

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

/// DUP in the flags of the first byte.
const DUP: u8 = 0b1000;
/// The field's name in errors.
const TOPIC: &str = "topic name";
/// RETAIN in the flags of the first byte.
const RETAIN: u8 = 0b0001;

impl<'a> Publish<'a> {
    /// Checks the flags of a first byte: all that can be told before the packet is there.
    #[inline]
    pub(crate) fn check_flags(
        flags: u8,
        version: ProtocolVersion,
        lenient: bool,
    ) -> Result<(), DecodeError> {
        let qos = flags >> 1 & 0b11;
        if qos == 3 {
            return Err(DecodeError::PublishQoS);
        }
        // Clients of 3.x that send DUP with QoS 0 exist; 5.0 clients are held to the rule.
        if qos == 0 && flags & DUP != 0 && (version.is_v5() || !lenient) {
            return Err(DecodeError::DupWithQoS0);
        }
        Ok(())
    }

    /// Decodes the body of a PUBLISH, by hand because it is the packet that counts. The flags are checked already.
    ///
    /// It makes the decoder's whole answer, and the usual one without properties in one place: half of the time went into
    /// moving a packet into its enum, and that into its result, before.
    #[inline(always)]
    pub(crate) fn decode(
        context: Context,
        flags: u8,
        body: &'a [u8],
        consumed: usize,
    ) -> Result<Decoded<'a>, DecodeError> {
        let Some((&[high, low], rest)) = body.split_first_chunk() else {
            return Err(DecodeError::Truncated { field: TOPIC });
        };
        let topic_len = usize::from(u16::from_be_bytes([high, low]));
        let Some((bytes, mut rest)) = rest.split_at_checked(topic_len) else {
            return Err(DecodeError::Truncated { field: TOPIC });
        };
        let Ok(topic) = str::from_utf8(bytes) else {
            return Err(bad_utf8(bytes));
        };
        if topic.is_empty() || !is_plain(bytes) {
            check_topic(topic, context.version)?;
        }
        let qos = QoS::from_bits(flags >> 1 & 0b11).unwrap_or_default();
        let mut packet_id = None;
        if qos != QoS::AtMostOnce {
            let Some((&[high, low], after)) = rest.split_first_chunk() else {
                return Err(DecodeError::Truncated {
                    field: "packet identifier",
                });
            };
            let id = u16::from_be_bytes([high, low]);
            if id == 0 {
                return Err(DecodeError::ZeroPacketId {
                    packet: PacketType::Publish,
                });
            }
            packet_id = Some(id);
            rest = after;
        }
        if context.version.is_v5() {
            match rest {
                [0, after @ ..] if !topic.is_empty() => rest = after,
                _ => {
                    return Self::with_properties(context, flags, topic, packet_id, rest, consumed);
                }
            }
        }
        Ok(Decoded::Packet {
            packet: Packet::Publish(Self {
                dup: flags & DUP != 0,
                qos,
                retain: flags & RETAIN != 0,
                topic,
                packet_id,
                properties: PublishProperties::NONE,
                payload: rest,
            }),
            consumed,
        })
    }

    /// Goes on where the properties begin.
    #[inline(never)]
    fn with_properties(
        context: Context,
        flags: u8,
        topic: &'a str,
        packet_id: Option<u16>,
        input: &'a [u8],
        consumed: usize,
    ) -> Result<Decoded<'a>, DecodeError> {
        let (payload, section) = read::property_section(input).map_err(unwrap_error)?;
        let properties = PublishProperties::parse(context.role, section)?;
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::NoTopic);
        }
        Ok(Decoded::Packet {
            packet: Packet::Publish(Self {
                dup: flags & DUP != 0,
                qos: QoS::from_bits(flags >> 1 & 0b11).unwrap_or_default(),
                retain: flags & RETAIN != 0,
                topic,
                packet_id,
                properties,
                payload,
            }),
            consumed,
        })
    }

    /// The flags of the first byte.
    #[inline]
    pub(super) const fn flags(dup: bool, qos: QoS, retain: bool) -> u8 {
        (dup as u8) << 3 | qos.bits() << 1 | retain as u8
    }
}

/// Judges a topic name that is empty or has a character it may not have; an empty one in 5.0 may have an alias.
#[cold]
fn check_topic(topic: &str, version: ProtocolVersion) -> Result<(), DecodeError> {
    match validate_topic_name(topic) {
        Ok(()) => Ok(()),
        Err(TopicError::Empty) if version.is_v5() => Ok(()),
        Err(TopicError::Null(_)) => Err(DecodeError::NullCharacter { field: TOPIC }),
        Err(error) => Err(DecodeError::TopicName(error)),
    }
}

/// Says where the topic name stops to be UTF-8.
#[cold]
fn bad_utf8(topic: &[u8]) -> DecodeError {
    match read::utf8(topic, TOPIC) {
        Err(error) => error,
        Ok(_) => DecodeError::Truncated { field: TOPIC },
    }
}

impl<'a> PublishProperties<'a> {
    /// No properties.
    pub const NONE: Self = Self {
        payload_format_indicator: None,
        message_expiry_interval: None,
        topic_alias: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        subscription_identifiers: Vec::new(),
        content_type: None,
    };

    /// Parses a property section without its length.
    pub(crate) fn parse(reader: Role, section: &'a [u8]) -> Result<Self, DecodeError> {
        let packet = PacketType::Publish;
        let mut p = Self::default();
        collect(packet, section, |property| match property {
            Property::PayloadFormatIndicator(v) => once(&mut p.payload_format_indicator, v),
            Property::MessageExpiryInterval(v) => once(&mut p.message_expiry_interval, v),
            Property::TopicAlias(v) => once(&mut p.topic_alias, v),
            Property::ResponseTopic(v) => once(&mut p.response_topic, v),
            Property::CorrelationData(v) => once(&mut p.correlation_data, v),
            Property::User(v) => many(&mut p.user_properties, v),
            Property::SubscriptionIdentifier(v) => many(&mut p.subscription_identifiers, v),
            Property::ContentType(v) => once(&mut p.content_type, v),
            _ => Slot::Unexpected,
        })?;
        if let Some(topic) = p.response_topic {
            validate_topic_name(topic).map_err(DecodeError::ResponseTopic)?;
        }
        if reader == Role::Server && !p.subscription_identifiers.is_empty() {
            return Err(DecodeError::PropertyDirection {
                packet,
                property: "Subscription Identifier",
            });
        }
        Ok(p)
    }

    /// Appends the properties that a server forwards unaltered to every receiver, in wire form: payload format
    /// indicator, response topic, correlation data, user properties, content type. [`PublishHead::forwarded`] takes
    /// these bytes; expiry, alias and subscription identifiers change with each delivery and are not among them.
    ///
    /// # Errors
    /// A field is too long; then nothing is appended. It cannot happen to decoded properties.
    ///
    /// [`PublishHead::forwarded`]: super::PublishHead::forwarded
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        ForwardedProperties {
            payload_format_indicator: self.payload_format_indicator,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties.iter().copied(),
            content_type: self.content_type,
        }
        .encode(out)
    }

    /// Parses what [`encode_forwarded`](Self::encode_forwarded) wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn from_forwarded(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::parse(Role::Server, bytes)
    }

    /// True if no property is there.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.payload_format_indicator.is_none()
            && self.message_expiry_interval.is_none()
            && self.topic_alias.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.user_properties.is_empty()
            && self.subscription_identifiers.is_empty()
            && self.content_type.is_none()
    }

    /// True if [`encode_forwarded`](Self::encode_forwarded) has something to write.
    #[inline]
    pub fn has_forwarded(&self) -> bool {
        self.payload_format_indicator.is_some()
            || self.response_topic.is_some()
            || self.correlation_data.is_some()
            || !self.user_properties.is_empty()
            || self.content_type.is_some()
    }
}

impl<'a> From<WillProperties<'a>> for PublishProperties<'a> {
    /// The properties a will is published with: all but the will delay interval.
    fn from(will: WillProperties<'a>) -> Self {
        Self {
            payload_format_indicator: will.payload_format_indicator,
            message_expiry_interval: will.message_expiry_interval,
            topic_alias: None,
            response_topic: will.response_topic,
            correlation_data: will.correlation_data,
            user_properties: will.user_properties,
            subscription_identifiers: Vec::new(),
            content_type: will.content_type,
        }
    }
}

/// The properties a server forwards unaltered, from whatever its message keeps them in.
///
/// [`PublishProperties::encode_forwarded`] is the same for who has them in that form; here the user properties are any
/// iterator, so that a delivery need not collect them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardedProperties<'a, U> {
    /// Whether the payload is UTF-8 [MQTT-3.3.2-4].
    pub payload_format_indicator: Option<PayloadFormat>,
    /// Where a response is to go [MQTT-3.3.2-15].
    pub response_topic: Option<&'a str>,
    /// What relates a response to its request [MQTT-3.3.2-16].
    pub correlation_data: Option<&'a [u8]>,
    /// User properties in their order [MQTT-3.3.2-18]. Walked twice.
    pub user_properties: U,
    /// What the payload is [MQTT-3.3.2-20].
    pub content_type: Option<&'a str>,
}

impl<'a, U: Iterator<Item = (&'a str, &'a str)> + Clone> ForwardedProperties<'a, U> {
    /// Appends the properties in wire form, for [`PublishHead::forwarded`](super::PublishHead::forwarded).
    ///
    /// # Errors
    /// A field is too long; then nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.reserve(Count::of(|count| self.describe(count))?);
        self.describe(out);
        Ok(())
    }

    fn describe(&self, sink: &mut impl Sink) {
        let mut write = |property: Property<'_>| property.write(sink);
        self.payload_format_indicator
            .map(Property::PayloadFormatIndicator)
            .map(&mut write);
        self.response_topic
            .map(Property::ResponseTopic)
            .map(&mut write);
        self.correlation_data
            .map(Property::CorrelationData)
            .map(&mut write);
        self.user_properties
            .clone()
            .map(Property::User)
            .for_each(&mut write);
        self.content_type.map(Property::ContentType).map(&mut write);
    }
}

impl WriteProperties for PublishProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.topic_alias.map(Property::TopicAlias).map(&mut write);
        self.message_expiry_interval
            .map(Property::MessageExpiryInterval)
            .map(&mut write);
        self.subscription_identifiers
            .iter()
            .copied()
            .map(Property::SubscriptionIdentifier)
            .for_each(&mut write);
        // The same order as a delivery has it, see `PublishHead`.
        self.payload_format_indicator
            .map(Property::PayloadFormatIndicator)
            .map(&mut write);
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
        self.content_type.map(Property::ContentType).map(&mut write);
    }
}

impl Body for Publish<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        if self.dup && self.qos == QoS::AtMostOnce && version.is_v5() {
            sink.fail(EncodeError::Value {
                field: "DUP",
                expected: "0 with QoS 0",
                got: 1,
            });
        }
        let unnamed =
            self.topic.is_empty() && !(version.is_v5() && self.properties.topic_alias.is_some());
        if unnamed {
            sink.fail(EncodeError::Value {
                field: "topic name",
                expected: "one, or a topic alias",
                got: 0,
            });
        }
        write::string(sink, "topic name", self.topic);
        if self.qos != QoS::AtMostOnce {
            write::packet_id(sink, PacketType::Publish, self.packet_id.unwrap_or(0));
        }
        if version.is_v5() {
            self.properties.write(sink);
        }
        sink.put(self.payload);
    }
}
