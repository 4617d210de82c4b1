//! SUBACK: the server's answer to SUBSCRIBE (section 3.9).

use super::{AckProperties, Body};
use crate::decoder::Context;
use crate::wire::property::WriteProperties;
use crate::wire::read::unwrap_error;
use crate::wire::write::{self, Sink};
use crate::{DecodeError, EncodeError, PacketType, ProtocolVersion, ReasonCode};

/// SUBACK.
#[derive(Debug, Clone, PartialEq)]
pub struct Suback<'a> {
    /// The packet identifier of the SUBSCRIBE, never 0.
    pub packet_id: u16,
    /// One outcome for each filter, in order [MQTT-3.8.4-6]: the granted QoS ([`ReasonCode::granted`]) or an error, which
    /// 3.x tells as 0x80 whatever it is.
    pub reasons: Vec<ReasonCode>,
    /// 5.0: the properties.
    pub properties: AckProperties<'a>,
}

impl<'a> Suback<'a> {
    /// Decodes the body of a SUBACK.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        let (codes, (packet_id, properties)) =
            AckProperties::header(context, body, PacketType::Suback).map_err(unwrap_error)?;
        if codes.is_empty() {
            return Err(DecodeError::EmptyPayload {
                packet: PacketType::Suback,
            });
        }
        let legal = if context.version.is_v5() {
            is_legal
        } else {
            is_legal_3x
        };
        let reasons = super::reasons(codes, PacketType::Suback, legal)?;
        Ok(Self {
            packet_id,
            reasons,
            properties,
        })
    }
}

/// The reason codes SUBACK may carry (table 3-8).
const fn is_legal(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::Success
            | ReasonCode::GrantedQoS1
            | ReasonCode::GrantedQoS2
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::PacketIdentifierInUse
            | ReasonCode::QuotaExceeded
            | ReasonCode::SharedSubscriptionsNotSupported
            | ReasonCode::SubscriptionIdentifiersNotSupported
            | ReasonCode::WildcardSubscriptionsNotSupported
    )
}

/// The return codes of 3.1.1 [MQTT-3.9.3-2]. 3.1 has no failure; servers send it 0x80 all the same.
const fn is_legal_3x(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::Success
            | ReasonCode::GrantedQoS1
            | ReasonCode::GrantedQoS2
            | ReasonCode::UnspecifiedError
    )
}

impl Body for Suback<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        write::packet_id(sink, PacketType::Suback, self.packet_id);
        if version.is_v5() {
            self.properties.write(sink);
        }
        if self.reasons.is_empty() {
            sink.fail(EncodeError::EmptyPayload(PacketType::Suback));
        }
        for &reason in &self.reasons {
            let code = if version.is_v5() || !reason.is_error() {
                reason
            } else {
                ReasonCode::UnspecifiedError
            };
            sink.put(&[code.code()]);
        }
    }
}
