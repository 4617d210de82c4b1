//! UNSUBSCRIBE: the client removes subscriptions (section 3.10).

use super::UserProperties;

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
