//! UNSUBSCRIBE: the client removes subscriptions (section 3.10).

use super::{Body, UserProperties};
use crate::decoder::Context;
use crate::wire::property::{Property, Slot, WriteProperties, collect, many};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::{self, Sink};
use crate::{DecodeError, EncodeError, PacketType, ProtocolVersion, validate_topic_filter};

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier, never 0.
    pub packet_id: u16,
    /// At least one valid topic filter [MQTT-3.10.3-2].
    pub filters: Vec<&'a str>,
    /// 5.0: the properties.
    pub properties: UnsubscribeProperties<'a>,
}

/// The properties of UNSUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnsubscribeProperties<'a> {
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// Decodes the body of an UNSUBSCRIBE.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut input, (packet_id, properties)) =
            Self::header(context, body).map_err(unwrap_error)?;
        if input.is_empty() {
            return Err(DecodeError::EmptyPayload {
                packet: PacketType::Unsubscribe,
            });
        }
        let mut filters = Vec::new();
        while !input.is_empty() {
            let (rest, filter) = read::string(input, "topic filter").map_err(unwrap_error)?;
            validate_topic_filter(filter).map_err(DecodeError::TopicFilter)?;
            filters.push(filter);
            input = rest;
        }
        Ok(Self {
            packet_id,
            filters,
            properties,
        })
    }

    fn header(context: Context, input: &'a [u8]) -> Parsed<'a, (u16, UnsubscribeProperties<'a>)> {
        let (input, packet_id) = super::packet_id(input, PacketType::Unsubscribe)?;
        if !context.version.is_v5() {
            return Ok((input, (packet_id, UnsubscribeProperties::default())));
        }
        let (input, section) = read::property_section(input)?;
        Ok((
            input,
            (
                packet_id,
                UnsubscribeProperties::parse(section).map_err(fail)?,
            ),
        ))
    }
}

impl<'a> UnsubscribeProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(
            PacketType::Unsubscribe,
            section,
            |property| match property {
                Property::User(v) => many(&mut p.user_properties, v),
                _ => Slot::Unexpected,
            },
        )?;
        Ok(p)
    }
}

impl WriteProperties for UnsubscribeProperties<'_> {
    fn each<'s>(&'s self, write: impl FnMut(Property<'s>)) {
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(write);
    }
}

impl Body for Unsubscribe<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        write::packet_id(sink, PacketType::Unsubscribe, self.packet_id);
        if version.is_v5() {
            self.properties.write(sink);
        }
        if self.filters.is_empty() {
            sink.fail(EncodeError::EmptyPayload(PacketType::Unsubscribe));
        }
        for filter in &self.filters {
            write::string(sink, "topic filter", filter);
        }
    }
}
