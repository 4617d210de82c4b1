//! DISCONNECT: the end of a connection (section 3.14).

use super::UserProperties;
use crate::ReasonCode;

/// DISCONNECT. In 3.x only a client sends it, and it carries nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; [`ReasonCode::NORMAL_DISCONNECTION`] in 3.x.
    pub reason: ReasonCode,
    /// 5.0: the properties.
    pub properties: DisconnectProperties<'a>,
}

impl Disconnect<'_> {
    /// A DISCONNECT without properties.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: DisconnectProperties {
                session_expiry_interval: None,
                reason_string: None,
                user_properties: Vec::new(),
                server_reference: None,
            },
        }
    }
}

/// The properties of DISCONNECT.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DisconnectProperties<'a> {
    /// A new session expiry interval in seconds. Client to server only [MQTT-3.14.2-2].
    pub session_expiry_interval: Option<u32>,
    /// For people to read; not to be parsed.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// Another server to use. Server to client only.
    pub server_reference: Option<&'a str>,
}
