//! PUBACK, PUBREC, PUBREL, PUBCOMP: four packets of one shape (sections 3.4 to 3.7).

use super::UserProperties;
use crate::ReasonCode;

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
