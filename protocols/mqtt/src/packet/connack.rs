//! CONNACK: the server's answer to CONNECT (section 3.2).

use super::UserProperties;
use crate::{QoS, ReasonCode};

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
