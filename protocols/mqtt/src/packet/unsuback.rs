//! UNSUBACK: the server's answer to UNSUBSCRIBE (section 3.11).

use super::{AckProperties, Body};
use crate::decoder::Context;
use crate::wire::property::WriteProperties;
use crate::wire::read::unwrap_error;
use crate::wire::write::{self, Sink};
use crate::{DecodeError, EncodeError, PacketType, ProtocolVersion, ReasonCode};

/// UNSUBACK.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsuback<'a> {
    /// The packet identifier of the UNSUBSCRIBE, never 0.
    pub packet_id: u16,
    /// 5.0: one outcome for each filter, in order [MQTT-3.11.3-1]. Empty in 3.x.
    pub reasons: Vec<ReasonCode>,
    /// 5.0: the properties.
    pub properties: AckProperties<'a>,
}

impl<'a> Unsuback<'a> {
    /// Decodes the body of an UNSUBACK.
    pub(crate) fn decode(context: Context, body: &'a [u8]) -> Result<Self, DecodeError> {
        let packet = PacketType::Unsuback;
        let (codes, (packet_id, properties)) =
            AckProperties::header(context, body, packet).map_err(unwrap_error)?;
        match (context.version.is_v5(), codes.is_empty()) {
            (true, true) => return Err(DecodeError::EmptyPayload { packet }),
            (false, false) => {
                return Err(DecodeError::TrailingBytes {
                    packet,
                    got: codes.len(),
                });
            }
            (true, false) | (false, true) => {}
        }
        let reasons = super::reasons(codes, packet, is_legal)?;
        Ok(Self {
            packet_id,
            reasons,
            properties,
        })
    }
}

/// The reason codes UNSUBACK may carry (table 3-9).
const fn is_legal(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::Success
            | ReasonCode::NoSubscriptionExisted
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::PacketIdentifierInUse
    )
}

impl Body for Unsuback<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        write::packet_id(sink, PacketType::Unsuback, self.packet_id);
        if !version.is_v5() {
            return;
        }
        self.properties.write(sink);
        if self.reasons.is_empty() {
            sink.fail(EncodeError::EmptyPayload(PacketType::Unsuback));
        }
        for reason in &self.reasons {
            sink.put(&[reason.code()]);
        }
    }
}
