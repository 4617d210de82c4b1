//! PUBACK, PUBREC, PUBREL, PUBCOMP: four packets of one shape (sections 3.4 to 3.7).

use super::{Body, UserProperties};
use crate::decoder::Context;
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::{self, Sink};
use crate::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack<'a> {
    /// The packet identifier of the PUBLISH, never 0.
    pub packet_id: u16,
    /// 5.0: the outcome; [`ReasonCode::Success`] in 3.x, which has none.
    pub reason: ReasonCode,
    /// 5.0: the properties.
    pub properties: AckProperties<'a>,
}

impl Ack<'_> {
    /// An acknowledgement without properties.
    #[inline]
    pub const fn new(packet_id: u16, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: AckProperties {
                reason_string: None,
                user_properties: Vec::new(),
            },
        }
    }
}

/// The properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AckProperties<'a> {
    /// For people to read; not to be parsed.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// Decodes the body of a PUBACK, PUBREC, PUBREL or PUBCOMP.
    #[inline]
    pub(crate) fn decode(
        context: Context,
        packet: PacketType,
        body: &'a [u8],
    ) -> Result<Self, DecodeError> {
        // The common form: all of 3.x, and success in 5.0.
        if let &[high, low] = body {
            let packet_id = u16::from_be_bytes([high, low]);
            if packet_id == 0 {
                return Err(DecodeError::ZeroPacketId { packet });
            }
            return Ok(Self::new(packet_id, ReasonCode::Success));
        }
        Self::decode_long(context, packet, body)
    }

    fn decode_long(
        context: Context,
        packet: PacketType,
        body: &'a [u8],
    ) -> Result<Self, DecodeError> {
        match Self::parse(context, packet, body).map_err(unwrap_error)? {
            ([], ack) => Ok(ack),
            (rest, _) => Err(DecodeError::TrailingBytes {
                packet,
                got: rest.len(),
            }),
        }
    }

    fn parse(context: Context, packet: PacketType, input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, packet_id) = super::packet_id(input, packet)?;
        if !context.version.is_v5() {
            return Ok((input, Self::new(packet_id, ReasonCode::Success)));
        }
        let (input, code) = read::byte(input, "reason code")?;
        let reason = ReasonCode::from_u8(code)
            .filter(|&code| is_legal(packet, code))
            .ok_or_else(|| fail(DecodeError::ReasonCode { packet, got: code }))?;
        if input.is_empty() {
            return Ok((input, Self::new(packet_id, reason)));
        }
        let (input, section) = read::property_section(input)?;
        let properties = AckProperties::parse(packet, section).map_err(fail)?;
        Ok((
            input,
            Self {
                packet_id,
                reason,
                properties,
            },
        ))
    }

    /// Writes the body; the four packets share it.
    pub(super) fn write(&self, packet: PacketType, version: ProtocolVersion, sink: &mut impl Sink) {
        write::packet_id(sink, packet, self.packet_id);
        if !version.is_v5() {
            return;
        }
        let plain = self.properties.is_empty();
        if plain && self.reason == ReasonCode::Success {
            return;
        }
        sink.put(&[self.reason.code()]);
        if !plain {
            self.properties.write(sink);
        }
    }
}

/// The reason codes of the four packets (tables 3-4 to 3-7).
const fn is_legal(packet: PacketType, code: ReasonCode) -> bool {
    match packet {
        PacketType::Puback | PacketType::Pubrec => matches!(
            code,
            ReasonCode::Success
                | ReasonCode::NoMatchingSubscribers
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicNameInvalid
                | ReasonCode::PacketIdentifierInUse
                | ReasonCode::QuotaExceeded
                | ReasonCode::PayloadFormatInvalid
        ),
        _ => matches!(
            code,
            ReasonCode::Success | ReasonCode::PacketIdentifierNotFound
        ),
    }
}

impl<'a> AckProperties<'a> {
    /// Reads packet identifier and, in 5.0, properties: the head of SUBACK and UNSUBACK.
    pub(super) fn header(
        context: Context,
        input: &'a [u8],
        packet: PacketType,
    ) -> Parsed<'a, (u16, Self)> {
        let (input, packet_id) = super::packet_id(input, packet)?;
        if !context.version.is_v5() {
            return Ok((input, (packet_id, Self::default())));
        }
        let (input, section) = read::property_section(input)?;
        Ok((
            input,
            (packet_id, Self::parse(packet, section).map_err(fail)?),
        ))
    }

    fn parse(packet: PacketType, section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(packet, section, |property| match property {
            Property::ReasonString(v) => once(&mut p.reason_string, v),
            Property::User(v) => many(&mut p.user_properties, v),
            _ => Slot::Unexpected,
        })?;
        Ok(p)
    }

    fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

impl WriteProperties for AckProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.reason_string
            .map(Property::ReasonString)
            .map(&mut write);
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(&mut write);
    }
}

/// An acknowledgement with its type: lets one description serve four packets.
pub(super) struct TypedAck<'p, 'a>(pub(super) PacketType, pub(super) &'p Ack<'a>);

impl Body for TypedAck<'_, '_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        self.1.write(self.0, version, sink);
    }
}
