//! SUBACK: the server's answer to SUBSCRIBE (section 3.9).

use super::AckProperties;
use crate::ReasonCode;

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
