//! DISCONNECT: the end of a connection (section 3.14).

use super::{Body, UserProperties};
use crate::decoder::{Context, Role};
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::Sink;
use crate::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// DISCONNECT. In 3.x only a client sends it, and it carries nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; [`ReasonCode::NORMAL_DISCONNECTION`] in 3.x.
    pub reason: ReasonCode,
    /// 5.0: the properties.
    pub properties: DisconnectProperties<'a>,
}

impl Disconnect<'_> {
    /// A DISCONNECT without properties.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: DisconnectProperties {
                session_expiry_interval: None,
                reason_string: None,
                user_properties: Vec::new(),
                server_reference: None,
            },
        }
    }
}

/// The properties of DISCONNECT.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DisconnectProperties<'a> {
    /// A new session expiry interval in seconds. Client to server only [MQTT-3.14.2-2].
    pub session_expiry_interval: Option<u32>,
    /// For people to read; not to be parsed.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// Another server to use. Server to client only.
    pub server_reference: Option<&'a str>,
}

impl<'a> Disconnect<'a> {
    /// Decodes the body of a DISCONNECT.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        let packet = PacketType::Disconnect;
        match Self::parse(context, body).map_err(unwrap_error)? {
            ([], disconnect) => Ok(disconnect),
            (rest, _) => Err(DecodeError::TrailingBytes {
                packet,
                got: rest.len(),
            }),
        }
    }

    fn parse(context: Context, input: &'a [u8]) -> Parsed<'a, Self> {
        if !context.version.is_v5() || input.is_empty() {
            return Ok((input, Self::new(ReasonCode::NORMAL_DISCONNECTION)));
        }
        let (input, code) = read::byte(input, "reason code")?;
        let reason = ReasonCode::from_u8(code)
            .filter(|&code| is_legal(context.role, code))
            .ok_or_else(|| {
                fail(DecodeError::ReasonCode {
                    packet: PacketType::Disconnect,
                    got: code,
                })
            })?;
        if input.is_empty() {
            return Ok((input, Self::new(reason)));
        }
        let (input, section) = read::property_section(input)?;
        let properties = DisconnectProperties::parse(context.role, section).map_err(fail)?;
        Ok((input, Self { reason, properties }))
    }
}

/// The reason codes DISCONNECT may carry, by the side that reads it (table 3-10).
const fn is_legal(reader: Role, code: ReasonCode) -> bool {
    match code {
        ReasonCode::Success
        | ReasonCode::UnspecifiedError
        | ReasonCode::MalformedPacket
        | ReasonCode::ProtocolError
        | ReasonCode::ImplementationSpecificError
        // Table 2-4 gives it to DISCONNECT, table 3-10 forgets it; a failed re-authentication needs it on both sides.
        | ReasonCode::BadAuthenticationMethod
        | ReasonCode::TopicNameInvalid
        | ReasonCode::ReceiveMaximumExceeded
        | ReasonCode::TopicAliasInvalid
        | ReasonCode::PacketTooLarge
        | ReasonCode::MessageRateTooHigh
        | ReasonCode::QuotaExceeded
        | ReasonCode::AdministrativeAction
        | ReasonCode::PayloadFormatInvalid => true,
        ReasonCode::DisconnectWithWill => matches!(reader, Role::Server),
        ReasonCode::NotAuthorized
        | ReasonCode::ServerBusy
        | ReasonCode::ServerShuttingDown
        | ReasonCode::KeepAliveTimeout
        | ReasonCode::SessionTakenOver
        | ReasonCode::TopicFilterInvalid
        | ReasonCode::RetainNotSupported
        | ReasonCode::QoSNotSupported
        | ReasonCode::UseAnotherServer
        | ReasonCode::ServerMoved
        | ReasonCode::SharedSubscriptionsNotSupported
        | ReasonCode::ConnectionRateExceeded
        | ReasonCode::MaximumConnectTime
        | ReasonCode::SubscriptionIdentifiersNotSupported
        | ReasonCode::WildcardSubscriptionsNotSupported => matches!(reader, Role::Client),
        _ => false,
    }
}

impl<'a> DisconnectProperties<'a> {
    fn parse(reader: Role, section: &'a [u8]) -> Result<Self, DecodeError> {
        let packet = PacketType::Disconnect;
        let mut p = Self::default();
        collect(packet, section, |property| match property {
            Property::SessionExpiryInterval(v) => once(&mut p.session_expiry_interval, v),
            Property::ReasonString(v) => once(&mut p.reason_string, v),
            Property::User(v) => many(&mut p.user_properties, v),
            Property::ServerReference(v) => once(&mut p.server_reference, v),
            _ => Slot::Unexpected,
        })?;
        match reader {
            Role::Client if p.session_expiry_interval.is_some() => {
                Err(DecodeError::PropertyDirection {
                    packet,
                    property: "Session Expiry Interval",
                })
            }
            Role::Server if p.server_reference.is_some() => Err(DecodeError::PropertyDirection {
                packet,
                property: "Server Reference",
            }),
            Role::Client | Role::Server => Ok(p),
        }
    }

    fn is_empty(&self) -> bool {
        self.session_expiry_interval.is_none()
            && self.reason_string.is_none()
            && self.user_properties.is_empty()
            && self.server_reference.is_none()
    }
}

impl WriteProperties for DisconnectProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.session_expiry_interval
            .map(Property::SessionExpiryInterval)
            .map(&mut write);
        self.reason_string
            .map(Property::ReasonString)
            .map(&mut write);
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(&mut write);
        self.server_reference
            .map(Property::ServerReference)
            .map(&mut write);
    }
}

impl Body for Disconnect<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        if !version.is_v5() {
            return;
        }
        let plain = self.properties.is_empty();
        if plain && self.reason == ReasonCode::NORMAL_DISCONNECTION {
            return;
        }
        sink.put(&[self.reason.code()]);
        if !plain {
            self.properties.write(sink);
        }
    }
}
