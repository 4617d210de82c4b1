//! What packets of the broker mean to the caller.

use nightjar_mqtt::packet::Connack;
use nightjar_mqtt::{QoS, ReasonCode};

use crate::message::Message;

/// What the broker said in CONNACK. Absent properties have the standard's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The broker had a session for this client.
    pub session_present: bool,
    /// The outcome; in 3.x mapped from the return code.
    pub reason: ReasonCode,
    /// The client identifier the broker chose.
    pub assigned_client_id: Option<String>,
    /// Keep alive in seconds to use in place of our own.
    pub server_keep_alive: Option<u16>,
    /// Seconds the session lives, if not as asked.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 messages it handles at once.
    pub receive_maximum: u16,
    /// The highest QoS.
    pub maximum_qos: QoS,
    /// It keeps retained messages.
    pub retain_available: bool,
    /// The largest packet.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias it takes.
    pub topic_alias_maximum: u16,
    /// It takes wildcard filters.
    pub wildcard_subscription_available: bool,
    /// It takes subscription identifiers.
    pub subscription_identifiers_available: bool,
    /// It takes shared subscriptions.
    pub shared_subscription_available: bool,
    /// The basis for response topics.
    pub response_information: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// For people to read.
    pub reason_string: Option<String>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<String>,
    /// Data of that method.
    pub authentication_data: Option<Vec<u8>>,
    /// User properties.
    pub user_properties: Vec<(String, String)>,
}

impl Connected {
    pub(super) fn new(connack: &Connack<'_>) -> Self {
        let properties = &connack.properties;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            session_present: connack.session_present,
            reason: connack.reason,
            assigned_client_id: owned(properties.assigned_client_identifier),
            server_keep_alive: properties.server_keep_alive,
            session_expiry: properties.session_expiry_interval,
            receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
            maximum_qos: properties.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            retain_available: properties.retain_available.unwrap_or(true),
            maximum_packet_size: properties.maximum_packet_size,
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            wildcard_subscription_available: properties
                .wildcard_subscription_available
                .unwrap_or(true),
            subscription_identifiers_available: properties
                .subscription_identifiers_available
                .unwrap_or(true),
            shared_subscription_available: properties.shared_subscription_available.unwrap_or(true),
            response_information: owned(properties.response_information),
            server_reference: owned(properties.server_reference),
            reason_string: owned(properties.reason_string),
            authentication_method: owned(properties.authentication_method),
            authentication_data: properties.authentication_data.map(<[u8]>::to_vec),
            user_properties: own(&properties.user_properties),
        }
    }
}

fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What a packet of the broker means to the caller.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// CONNACK, also a refusing one: look at its reason.
    Connected(Box<Connected>),
    /// A message.
    Message(Message),
    /// A QoS 1 or 2 message of ours is done; with a reason of 0x80 or above it was refused.
    Published {
        /// As [`Session::publish`](super::Session::publish) returned it.
        packet_id: u16,
        /// Always success in 3.x.
        reason: ReasonCode,
    },
    /// SUBACK.
    Subscribed {
        /// As [`Session::subscribe`](super::Session::subscribe) returned it.
        packet_id: u16,
        /// One for each filter, in order.
        reasons: Vec<ReasonCode>,
    },
    /// UNSUBACK.
    Unsubscribed {
        /// As [`Session::unsubscribe`](super::Session::unsubscribe) returned it.
        packet_id: u16,
        /// One for each filter, in order; empty in 3.x.
        reasons: Vec<ReasonCode>,
    },
    /// PINGRESP.
    Pong,
    /// The broker ends the connection (5.0).
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// For people to read.
        reason_string: Option<String>,
        /// Another server to use.
        server_reference: Option<String>,
    },
    /// A step of enhanced authentication.
    Auth {
        /// Success or continue.
        reason: ReasonCode,
        /// The method.
        method: Option<String>,
        /// Its data.
        data: Option<Vec<u8>>,
    },
}
