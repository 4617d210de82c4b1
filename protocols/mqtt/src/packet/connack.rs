//! CONNACK: the server's answer to CONNECT (section 3.2).

use super::{Body, UserProperties};
use crate::decoder::Context;
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::Sink;
use crate::{
    ConnectReturnCode, DecodeError, EncodeError, PacketType, ProtocolVersion, QoS, ReasonCode,
};

/// CONNACK.
#[derive(Debug, Clone, PartialEq)]
pub struct Connack<'a> {
    /// The server has a session for this client. Never with an error [MQTT-3.2.2-6]; not carried by 3.1.
    pub session_present: bool,
    /// The outcome. 3.x carries a return code: see [`ReasonCode::connect_return_code`].
    pub reason: ReasonCode,
    /// 5.0: the properties.
    pub properties: ConnackProperties<'a>,
}

/// The properties of CONNACK. `None`: not sent, the standard's default counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnackProperties<'a> {
    /// Seconds the session lives, if the server does not take the client's value.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages the server handles at once, never 0; absent 65,535.
    pub receive_maximum: Option<u16>,
    /// Highest QoS the server accepts: 0 or 1, never 2 on the wire; absent 2.
    pub maximum_qos: Option<QoS>,
    /// Retained messages are supported; absent true.
    pub retain_available: Option<bool>,
    /// Largest packet in bytes the server accepts, never 0.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier the server chose for a client that sent none.
    pub assigned_client_identifier: Option<&'a str>,
    /// Highest topic alias the server accepts; absent 0.
    pub topic_alias_maximum: Option<u16>,
    /// For people to read; not to be parsed.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// Wildcard subscriptions are supported; absent true.
    pub wildcard_subscription_available: Option<bool>,
    /// Subscription identifiers are supported; absent true.
    pub subscription_identifiers_available: Option<bool>,
    /// Shared subscriptions are supported; absent true.
    pub shared_subscription_available: Option<bool>,
    /// Keep alive in seconds the client has to use in place of its own.
    pub server_keep_alive: Option<u16>,
    /// The basis for response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> Connack<'a> {
    /// A CONNACK without properties.
    pub fn new(session_present: bool, reason: ReasonCode) -> Self {
        Self {
            session_present,
            reason,
            properties: ConnackProperties::default(),
        }
    }

    /// Decodes the body of a CONNACK.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        match Self::parse(context, body).map_err(unwrap_error)? {
            ([], connack) => Ok(connack),
            (rest, _) => Err(DecodeError::TrailingBytes {
                packet: PacketType::Connack,
                got: rest.len(),
            }),
        }
    }

    fn parse(context: Context, input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, flags) = read::byte(input, "connect acknowledge flags")?;
        let (input, code) = read::byte(input, "reason code")?;
        let invalid = || {
            fail(DecodeError::ReasonCode {
                packet: PacketType::Connack,
                got: code,
            })
        };
        let (input, reason, properties) = if context.version.is_v5() {
            let reason = ReasonCode::from_u8(code)
                .filter(|&code| is_legal(code))
                .ok_or_else(invalid)?;
            let (input, section) = read::property_section(input)?;
            (
                input,
                reason,
                ConnackProperties::parse(section).map_err(fail)?,
            )
        } else {
            let reason = ConnectReturnCode::from_u8(code)
                .ok_or_else(invalid)?
                .reason_code();
            (input, reason, ConnackProperties::default())
        };
        // 3.1 leaves the whole byte unused.
        let session_present = match (context.version, flags) {
            (ProtocolVersion::V31, _) | (_, 0) => false,
            (_, 1) => true,
            (_, flags) => return Err(fail(DecodeError::ConnackFlags(flags))),
        };
        if session_present && reason.is_error() {
            return Err(fail(DecodeError::SessionPresentWithError));
        }
        Ok((
            input,
            Self {
                session_present,
                reason,
                properties,
            },
        ))
    }
}

/// The reason codes CONNACK may carry (table 3-1).
const fn is_legal(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::Success
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::QuotaExceeded
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded
    )
}

impl<'a> ConnackProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(PacketType::Connack, section, |property| match property {
            Property::SessionExpiryInterval(v) => once(&mut p.session_expiry_interval, v),
            Property::ReceiveMaximum(v) => once(&mut p.receive_maximum, v),
            Property::MaximumQoS(v) => once(&mut p.maximum_qos, v),
            Property::RetainAvailable(v) => once(&mut p.retain_available, v),
            Property::MaximumPacketSize(v) => once(&mut p.maximum_packet_size, v),
            Property::AssignedClientIdentifier(v) => once(&mut p.assigned_client_identifier, v),
            Property::TopicAliasMaximum(v) => once(&mut p.topic_alias_maximum, v),
            Property::ReasonString(v) => once(&mut p.reason_string, v),
            Property::User(v) => many(&mut p.user_properties, v),
            Property::WildcardSubscriptionAvailable(v) => {
                once(&mut p.wildcard_subscription_available, v)
            }
            Property::SubscriptionIdentifiersAvailable(v) => {
                once(&mut p.subscription_identifiers_available, v)
            }
            Property::SharedSubscriptionAvailable(v) => {
                once(&mut p.shared_subscription_available, v)
            }
            Property::ServerKeepAlive(v) => once(&mut p.server_keep_alive, v),
            Property::ResponseInformation(v) => once(&mut p.response_information, v),
            Property::ServerReference(v) => once(&mut p.server_reference, v),
            Property::AuthenticationMethod(v) => once(&mut p.authentication_method, v),
            Property::AuthenticationData(v) => once(&mut p.authentication_data, v),
            _ => Slot::Unexpected,
        })?;
        if p.authentication_data.is_some() && p.authentication_method.is_none() {
            return Err(DecodeError::NoAuthenticationMethod {
                packet: PacketType::Connack,
            });
        }
        Ok(p)
    }
}

impl WriteProperties for ConnackProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.session_expiry_interval
            .map(Property::SessionExpiryInterval)
            .map(&mut write);
        self.receive_maximum
            .map(Property::ReceiveMaximum)
            .map(&mut write);
        self.maximum_qos.map(Property::MaximumQoS).map(&mut write);
        self.retain_available
            .map(Property::RetainAvailable)
            .map(&mut write);
        self.maximum_packet_size
            .map(Property::MaximumPacketSize)
            .map(&mut write);
        self.assigned_client_identifier
            .map(Property::AssignedClientIdentifier)
            .map(&mut write);
        self.topic_alias_maximum
            .map(Property::TopicAliasMaximum)
            .map(&mut write);
        self.reason_string
            .map(Property::ReasonString)
            .map(&mut write);
        self.user_properties
            .iter()
            .copied()
            .map(Property::User)
            .for_each(&mut write);
        self.wildcard_subscription_available
            .map(Property::WildcardSubscriptionAvailable)
            .map(&mut write);
        self.subscription_identifiers_available
            .map(Property::SubscriptionIdentifiersAvailable)
            .map(&mut write);
        self.shared_subscription_available
            .map(Property::SharedSubscriptionAvailable)
            .map(&mut write);
        self.server_keep_alive
            .map(Property::ServerKeepAlive)
            .map(&mut write);
        self.response_information
            .map(Property::ResponseInformation)
            .map(&mut write);
        self.server_reference
            .map(Property::ServerReference)
            .map(&mut write);
        self.authentication_method
            .map(Property::AuthenticationMethod)
            .map(&mut write);
        self.authentication_data
            .map(Property::AuthenticationData)
            .map(&mut write);
    }
}

impl Body for Connack<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        if self.session_present && self.reason.is_error() {
            sink.fail(EncodeError::Value {
                field: "session present",
                expected: "0 with an error",
                got: 1,
            });
        }
        let flags = u8::from(self.session_present && version != ProtocolVersion::V31);
        if version.is_v5() {
            sink.put(&[flags, self.reason.code()]);
            self.properties.write(sink);
        } else {
            sink.put(&[flags, self.reason.connect_return_code().code()]);
        }
    }
}
