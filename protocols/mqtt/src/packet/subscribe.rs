//! SUBSCRIBE: the client asks for subscriptions (section 3.8).

use super::{Body, UserProperties};
use crate::decoder::Context;
use crate::topic::is_shared;
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::{self, Sink};
use crate::{DecodeError, EncodeError, PacketType, ProtocolVersion, QoS, validate_topic_filter};

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe<'a> {
    /// The packet identifier, never 0.
    pub packet_id: u16,
    /// At least one filter with its options [MQTT-3.8.3-2].
    pub subscriptions: Vec<Subscription<'a>>,
    /// 5.0: the properties.
    pub properties: SubscribeProperties<'a>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscription<'a> {
    /// A valid topic filter, shared or not.
    pub filter: &'a str,
    /// How it is to be served.
    pub options: SubscriptionOptions,
}

/// The subscription options byte. 3.x has the QoS only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Highest QoS of deliveries.
    pub qos: QoS,
    /// Do not deliver what this client itself publishes. Never on a shared subscription [MQTT-3.8.3-4].
    pub no_local: bool,
    /// Keep the retain flag as the publisher set it.
    pub retain_as_published: bool,
    /// Whether retained messages are sent for this subscription.
    pub retain_handling: RetainHandling,
}

/// When a subscription gets retained messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// With every SUBSCRIBE [MQTT-3.3.1-9]. All that 3.x knows.
    #[default]
    Send = 0,
    /// Only if the subscription did not exist before [MQTT-3.3.1-10].
    SendIfNew = 1,
    /// Never [MQTT-3.3.1-11].
    DoNotSend = 2,
}

/// The properties of SUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeProperties<'a> {
    /// The identifier that comes back with each delivery, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl SubscriptionOptions {
    /// Options with this QoS and everything else as 3.x has it.
    #[inline]
    pub const fn from_qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// The options byte of 5.0 (section 3.8.3.1).
    #[inline]
    pub const fn bits(self) -> u8 {
        self.qos.bits()
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Reads the options byte of a version.
    ///
    /// # Errors
    /// QoS 3, retain handling 3, or reserved bits set, which 3.1 does not look at.
    pub const fn from_byte(version: ProtocolVersion, byte: u8) -> Result<Self, DecodeError> {
        let reserved = match version {
            ProtocolVersion::V31 => 0,
            ProtocolVersion::V311 => 0b1111_1100,
            ProtocolVersion::V5 => 0b1100_0000,
        };
        if byte & reserved != 0 {
            return Err(DecodeError::SubscriptionReservedBits(byte));
        }
        let Some(qos) = QoS::from_bits(byte & 0b11) else {
            return Err(DecodeError::SubscriptionQoS);
        };
        if !version.is_v5() {
            return Ok(Self::from_qos(qos));
        }
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandling),
        };
        Ok(Self {
            qos,
            no_local: byte & 0b0100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }
}

impl<'a> Subscribe<'a> {
    /// Decodes the body of a SUBSCRIBE.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut input, (packet_id, properties)) =
            Self::header(context, body).map_err(unwrap_error)?;
        if input.is_empty() {
            return Err(DecodeError::EmptyPayload {
                packet: PacketType::Subscribe,
            });
        }
        let mut subscriptions = Vec::new();
        while !input.is_empty() {
            let (rest, subscription) = Subscription::parse(context, input).map_err(unwrap_error)?;
            subscriptions.push(subscription);
            input = rest;
        }
        Ok(Self {
            packet_id,
            subscriptions,
            properties,
        })
    }

    fn header(context: Context, input: &'a [u8]) -> Parsed<'a, (u16, SubscribeProperties<'a>)> {
        let (input, packet_id) = super::packet_id(input, PacketType::Subscribe)?;
        if !context.version.is_v5() {
            return Ok((input, (packet_id, SubscribeProperties::default())));
        }
        let (input, section) = read::property_section(input)?;
        Ok((
            input,
            (
                packet_id,
                SubscribeProperties::parse(section).map_err(fail)?,
            ),
        ))
    }
}

impl<'a> Subscription<'a> {
    fn parse(context: Context, input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, filter) = read::string(input, "topic filter")?;
        validate_topic_filter(filter).map_err(|error| fail(DecodeError::TopicFilter(error)))?;
        let (input, byte) = read::byte(input, "subscription options")?;
        let options = SubscriptionOptions::from_byte(context.version, byte).map_err(fail)?;
        if options.no_local && is_shared(filter) {
            return Err(fail(DecodeError::NoLocalOnShared));
        }
        Ok((input, Self { filter, options }))
    }
}

impl<'a> SubscribeProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(PacketType::Subscribe, section, |property| match property {
            Property::SubscriptionIdentifier(v) => once(&mut p.subscription_identifier, v),
            Property::User(v) => many(&mut p.user_properties, v),
            _ => Slot::Unexpected,
        })?;
        Ok(p)
    }
}

impl WriteProperties for SubscribeProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.subscription_identifier
            .map(Property::SubscriptionIdentifier)
            .map(&mut write);
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(&mut write);
    }
}

impl Body for Subscribe<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        write::packet_id(sink, PacketType::Subscribe, self.packet_id);
        if version.is_v5() {
            self.properties.write(sink);
        }
        if self.subscriptions.is_empty() {
            sink.fail(EncodeError::EmptyPayload(PacketType::Subscribe));
        }
        for subscription in &self.subscriptions {
            write::string(sink, "topic filter", subscription.filter);
            let options = subscription.options;
            sink.put(&[if version.is_v5() {
                options.bits()
            } else {
                options.qos.bits()
            }]);
        }
    }
}
