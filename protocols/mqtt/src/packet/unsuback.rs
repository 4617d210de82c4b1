//! UNSUBACK: the server's answer to UNSUBSCRIBE (section 3.11).

use super::AckProperties;
use crate::ReasonCode;

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
