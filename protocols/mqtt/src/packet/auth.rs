//! AUTH: a step of enhanced authentication (section 3.15). 5.0 only.

use super::UserProperties;
use crate::ReasonCode;

/// AUTH.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: AuthProperties<'a>,
}

/// The properties of AUTH.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthProperties<'a> {
    /// The method, the same through the whole exchange [MQTT-4.12.0-5]. Absent only where the server ends a
    /// re-authentication with the short form of success.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
    /// For people to read; not to be parsed.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}
