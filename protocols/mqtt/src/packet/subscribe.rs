//! SUBSCRIBE: the client asks for subscriptions (section 3.8).

use super::UserProperties;
use crate::QoS;

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe<'a> {
    /// The packet identifier, never 0.
    pub packet_id: u16,
    /// At least one filter with its options [MQTT-3.8.3-2].
    pub subscriptions: Vec<Subscription<'a>>,
    /// 5.0: the properties.
    pub properties: SubscribeProperties<'a>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscription<'a> {
    /// A valid topic filter, shared or not.
    pub filter: &'a str,
    /// How it is to be served.
    pub options: SubscriptionOptions,
}

/// The subscription options byte. 3.x has the QoS only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Highest QoS of deliveries.
    pub qos: QoS,
    /// Do not deliver what this client itself publishes. Never on a shared subscription [MQTT-3.8.3-4].
    pub no_local: bool,
    /// Keep the retain flag as the publisher set it.
    pub retain_as_published: bool,
    /// Whether retained messages are sent for this subscription.
    pub retain_handling: RetainHandling,
}

/// When a subscription gets retained messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// With every SUBSCRIBE [MQTT-3.3.1-9]. All that 3.x knows.
    #[default]
    Send = 0,
    /// Only if the subscription did not exist before [MQTT-3.3.1-10].
    SendIfNew = 1,
    /// Never [MQTT-3.3.1-11].
    DoNotSend = 2,
}

/// The properties of SUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeProperties<'a> {
    /// The identifier that comes back with each delivery, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}
