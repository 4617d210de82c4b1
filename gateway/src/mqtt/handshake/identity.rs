//! Who a CONNECT says that its client is, and what is named after it.

use std::sync::Arc;

use nightjar_broker::access::{CertNames, ClientInfo, Protocol};
use nightjar_broker::settings::MqttSettings;
use nightjar_mqtt::packet::Connect;
use nightjar_mqtt::{ProtocolVersion, ReasonCode};

use super::Refusal;
use crate::listener::Accepted;
use crate::mqtt::{CertAsUsername, ListenerMqtt, Shared};

/// Response Information: where this client may ask for responses (5.0 section 3.2.2.3.15). What
/// would break a topic is left out of the client identifier.
pub(super) fn response_topic(client_id: &str) -> String {
    let safe: String = client_id
        .chars()
        .filter(|c| !matches!(c, '+' | '#' | '/' | '\0'))
        .collect();
    format!("response/{safe}/")
}

/// The client identifier, and whether the server assigned it [MQTT-3.1.3-5..-8].
pub(super) fn client_id(
    shared: &Shared,
    settings: &MqttSettings,
    connect: &Connect<'_>,
) -> Result<(Arc<str>, bool), Refusal> {
    let id = connect.client_id;
    if id.len() > settings.max_client_id_len {
        return Err(Refusal::new(
            ReasonCode::ClientIdentifierNotValid,
            format!(
                "client identifier of {} bytes, mqtt.max_client_id_len = {}",
                id.len(),
                settings.max_client_id_len
            ),
        ));
    }
    if !id.is_empty() {
        return Ok((id.into(), false));
    }
    let allowed = match connect.version {
        ProtocolVersion::V5 => true,
        ProtocolVersion::V311 => connect.clean_start,
        ProtocolVersion::V31 => false,
    };
    if !allowed {
        return Err(Refusal::new(
            ReasonCode::ClientIdentifierNotValid,
            "empty client identifier without clean session [MQTT-3.1.3-8]",
        ));
    }
    Ok((shared.client_ids.assign(), true))
}

pub(super) fn client_info(
    accepted: &Accepted<ListenerMqtt>,
    connect: &Connect<'_>,
    client_id: Arc<str>,
) -> ClientInfo {
    let identity = accepted.identity.as_deref();
    let from_certificate =
        identity.and_then(
            |identity| match accepted.listener.settings().mqtt.cert_as_username {
                CertAsUsername::Off => None,
                CertAsUsername::CommonName => identity.common_name.as_deref(),
                CertAsUsername::Subject => identity.subject.as_deref(),
            },
        );
    ClientInfo {
        username: from_certificate.or(connect.username).map(Into::into),
        loopback: accepted.loopback,
        cert_common_name: identity
            .and_then(|identity| identity.common_name.as_deref())
            .map(Into::into),
        cert_subject: identity
            .and_then(|identity| identity.subject.as_deref())
            .map(Into::into),
        cert_names: identity
            .map(|identity| &identity.alternative_names)
            .filter(|names| **names != CertNames::default())
            .map(|names| Arc::new(names.clone())),
        ..ClientInfo::new(
            client_id,
            accepted.peer,
            accepted.listener.name().clone(),
            Protocol::Mqtt(connect.version),
        )
    }
}

/// The listener's mountpoint with its placeholders filled; a value that would break a topic is left out.
pub(super) fn mountpoint(accepted: &Accepted<ListenerMqtt>, info: &ClientInfo) -> Option<Arc<str>> {
    let template = accepted.listener.settings().mountpoint.as_deref()?;
    let safe = |value: &str| !value.contains(['+', '#', '/', '\0']);
    let client_id = if safe(&info.client_id) {
        &*info.client_id
    } else {
        ""
    };
    let username = info
        .username
        .as_deref()
        .filter(|name| safe(name))
        .unwrap_or_default();
    Some(
        template
            .replace("${clientid}", client_id)
            .replace("${username}", username)
            .into(),
    )
}
