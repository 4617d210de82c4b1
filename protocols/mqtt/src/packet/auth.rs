//! AUTH: a step of enhanced authentication (section 3.15). 5.0 only.

use super::{Body, UserProperties};
use crate::decoder::{Context, Role};
use crate::wire::property::{Property, Slot, WriteProperties, collect, many, once};
use crate::wire::read::{self, Parsed, fail, unwrap_error};
use crate::wire::write::Sink;
use crate::{DecodeError, EncodeError, PacketType, ProtocolVersion, ReasonCode};

/// AUTH.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: AuthProperties<'a>,
}

/// The properties of AUTH.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthProperties<'a> {
    /// The method, the same through the whole exchange [MQTT-4.12.0-5]. Absent only where the server ends a
    /// re-authentication with the short form of success.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
    /// For people to read; not to be parsed.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// Decodes the body of an AUTH.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        match Self::parse(context, body).map_err(unwrap_error)? {
            ([], auth) => Ok(auth),
            (rest, _) => Err(DecodeError::TrailingBytes {
                packet: PacketType::Auth,
                got: rest.len(),
            }),
        }
    }

    fn parse(context: Context, input: &'a [u8]) -> Parsed<'a, Self> {
        // Without a body the reason is success, which a client does not send; both are checked as one.
        let (input, code) = if input.is_empty() {
            (input, 0)
        } else {
            read::byte(input, "reason code")?
        };
        let reason = ReasonCode::from_u8(code)
            .filter(|&code| is_legal(context.role, code))
            .ok_or_else(|| {
                fail(DecodeError::ReasonCode {
                    packet: PacketType::Auth,
                    got: code,
                })
            })?;
        if input.is_empty() && reason == ReasonCode::Success {
            return Ok((
                input,
                Self {
                    reason,
                    properties: AuthProperties::default(),
                },
            ));
        }
        let (input, section) = read::property_section(input)?;
        let properties = AuthProperties::parse(section).map_err(fail)?;
        if properties.authentication_method.is_none() {
            return Err(fail(DecodeError::NoAuthenticationMethod {
                packet: PacketType::Auth,
            }));
        }
        Ok((input, Self { reason, properties }))
    }
}

/// The reason codes AUTH may carry, by the side that reads it (table 3-11).
const fn is_legal(reader: Role, code: ReasonCode) -> bool {
    match code {
        ReasonCode::Success => matches!(reader, Role::Client),
        ReasonCode::ContinueAuthentication => true,
        ReasonCode::ReAuthenticate => matches!(reader, Role::Server),
        _ => false,
    }
}

impl<'a> AuthProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        collect(PacketType::Auth, section, |property| match property {
            Property::AuthenticationMethod(v) => once(&mut p.authentication_method, v),
            Property::AuthenticationData(v) => once(&mut p.authentication_data, v),
            Property::ReasonString(v) => once(&mut p.reason_string, v),
            Property::User(v) => many(&mut p.user_properties, v),
            _ => Slot::Unexpected,
        })?;
        Ok(p)
    }
}

impl WriteProperties for AuthProperties<'_> {
    fn each<'s>(&'s self, mut write: impl FnMut(Property<'s>)) {
        self.authentication_method
            .map(Property::AuthenticationMethod)
            .map(&mut write);
        self.authentication_data
            .map(Property::AuthenticationData)
            .map(&mut write);
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

impl Body for Auth<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        if !version.is_v5() {
            sink.fail(EncodeError::NotInVersion(PacketType::Auth));
        }
        if self.reason == ReasonCode::Success && self.properties == AuthProperties::default() {
            return;
        }
        if self.properties.authentication_method.is_none() {
            sink.fail(EncodeError::Value {
                field: "Authentication Method",
                expected: "one",
                got: 0,
            });
        }
        sink.put(&[self.reason.code()]);
        self.properties.write(sink);
    }
}
