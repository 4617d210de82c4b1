//! Publishing by HTTP: judged by the same rules as a PUBLISH of a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use base64::Engine as _;
use nightjar_broker::access::{Action, ClientInfo, Protocol};
use nightjar_broker::acl::{AccessCache, Check};
use nightjar_broker::{Counter, Message, MessageHead, MessageProperties, Timestamp};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, qos};
use crate::access::{Peer, Principal};
use crate::error::{ApiError, CommonErrors};
use crate::extract::Json;
use crate::shared::Shared;

/// Time for the durable store to commit what was published.
const COMMIT_TIME: Duration = Duration::from_secs(10);

/// How a payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    #[default]
    Plain,
    /// In base64, for bytes that are no text.
    Base64,
}

/// Properties of MQTT 5.0 that travel with the message.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Properties {
    /// Payload Format Indicator, 0 or 1.
    #[schema(maximum = 1)]
    payload_format_indicator: Option<u8>,
    /// Message Expiry Interval, seconds.
    message_expiry_interval: Option<u32>,
    /// Content Type.
    content_type: Option<String>,
    /// Response Topic.
    response_topic: Option<String>,
    /// Correlation Data, as text.
    correlation_data: Option<String>,
    /// User Properties.
    #[serde(default)]
    user_properties: BTreeMap<String, String>,
}

/// A message to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Topic name.
    topic: String,
    /// Payload.
    #[serde(default)]
    payload: String,
    // `plain` or `base64`.
    #[serde(default)]
    #[schema(inline)]
    payload_encoding: Encoding,
    /// QoS.
    #[serde(default)]
    #[schema(maximum = 2)]
    qos: u8,
    /// Is it to be retained?
    #[serde(default)]
    retain: bool,
    /// In the name of this client identifier; left out: of the account. Rules see user `account` of the API.
    clientid: Option<String>,
    /// Properties of MQTT 5.0.
    #[serde(default)]
    properties: Properties,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishDone {
    /// A name of the message for logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// 16: nobody subscribes to the topic. 131: it was not authorized, or makes no sense (bulk only).
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<u8>,
    /// The code in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Publish a message
#[utoipa::path(post, path = "/publish", tag = "publish", request_body = Publish,
    responses((status = 200, body = PublishDone), (status = 202, body = PublishDone, description = "nobody subscribes to it"),
    CommonErrors))]
pub async fn publish(
    State(shared): App,
    Extension(who): Extension<Principal>,
    Extension(Peer(from)): Extension<Peer>,
    Json(body): Json<Publish>,
) -> Result<Response, ApiError> {
    let done = shared.publish(&who, from, body).await?;
    let status = if done.reason_code.is_some() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, Answer(done)).into_response())
}

/// Publish several messages in their order, at most 1000
#[utoipa::path(post, path = "/publish/bulk", tag = "publish", request_body = Vec<Publish>,
    responses((status = 200, body = Vec<PublishDone>), CommonErrors))]
pub async fn bulk(
    State(shared): App,
    Extension(who): Extension<Principal>,
    Extension(Peer(from)): Extension<Peer>,
    Json(list): Json<Vec<Publish>>,
) -> Result<Answer<Vec<PublishDone>>, ApiError> {
    if list.len() > super::list::MAX {
        return Err(ApiError::bad_request(format!(
            "expected at most {} messages, got {}",
            super::list::MAX,
            list.len()
        )));
    }
    let mut all = Vec::with_capacity(list.len());
    for body in list {
        let done = shared.publish(&who, from, body).await;
        all.push(done.unwrap_or_else(|error| PublishDone {
            id: None,
            reason_code: Some(131),
            message: Some(error.message),
        }));
    }
    Ok(Answer(all))
}

impl Shared {
    async fn publish(
        &self,
        who: &Principal,
        from: SocketAddr,
        body: Publish,
    ) -> Result<PublishDone, ApiError> {
        let now = Timestamp::now();
        let client = body.clientid.clone().unwrap_or_else(|| who.name.clone());
        let (message, settings_qos) = self.message(body, &client, now)?;
        self.authorize(who, from, &client, &message).await?;
        let max_qos = settings_qos;
        if message.qos() > max_qos {
            return Err(ApiError::bad_request(format!(
                "qos: expected at most mqtt.max_qos = {}",
                max_qos.bits()
            )));
        }
        let (published, ticket) = self.broker.publish_now(&message);
        match tokio::time::timeout(COMMIT_TIME, ticket.wait()).await {
            Ok(Ok(())) => {}
            Ok(Err(code)) => {
                return Err(ApiError::unavailable(format!(
                    "the durable store did not take it (0x{:02X})",
                    code.code()
                )));
            }
            Err(_) => {
                return Err(ApiError::unavailable(
                    "the durable store did not commit it in time; it may still do so",
                ));
            }
        }
        if published.rejected {
            return Err(ApiError::unavailable(
                "a subscriber's queue is full and mqtt.queue_policy is reject",
            ));
        }
        if !published.matched {
            return Ok(PublishDone {
                id: None,
                reason_code: Some(16),
                message: Some("no_matching_subscribers".to_owned()),
            });
        }
        Ok(PublishDone {
            id: Some(format!("{:016X}", now.0 ^ (message.address() as u64) << 20)),
            reason_code: None,
            message: None,
        })
    }

    /// The message of a request, and the highest QoS there is.
    fn message(
        &self,
        body: Publish,
        client: &str,
        now: Timestamp,
    ) -> Result<(Message, QoS), ApiError> {
        let bad = |field: &str, why: &dyn std::fmt::Display| {
            ApiError::bad_request(format!("{field}: {why}"))
        };
        let settings = self.broker.settings();
        let topic = TopicName::new(body.topic).map_err(|error| bad("topic", &error))?;
        if nightjar_mqtt::topic::levels(&topic) > settings.max_topic_levels {
            return Err(bad("topic", &"more levels than mqtt.max_topic_levels"));
        }
        if topic.starts_with("$SYS/") {
            return Err(ApiError::forbidden(
                "topic: only the node publishes below $SYS/",
            ));
        }
        let qos = qos(body.qos)?;
        if body.retain && !settings.retain_available {
            return Err(bad("retain", &"mqtt.retain_available = false"));
        }
        let payload = match body.payload_encoding {
            Encoding::Plain => body.payload.into_bytes(),
            Encoding::Base64 => base64::engine::general_purpose::STANDARD
                .decode(&body.payload)
                .map_err(|error| bad("payload", &format_args!("expected base64: {error}")))?,
        };
        if payload.len() > settings.max_packet_size as usize {
            return Err(bad("payload", &"larger than mqtt.max_packet_size"));
        }
        let properties = body.properties;
        if properties.payload_format_indicator.is_some_and(|it| it > 1) {
            return Err(bad(
                "properties.payload_format_indicator",
                &"expected 0 or 1",
            ));
        }
        if let Some(topic) = &properties.response_topic {
            TopicName::new(&**topic).map_err(|error| bad("properties.response_topic", &error))?;
        }
        let texts = properties
            .user_properties
            .iter()
            .flat_map(|(name, value)| [name, value])
            .chain(&properties.content_type)
            .chain(&properties.correlation_data);
        for text in texts {
            if text.len() > usize::from(u16::MAX) || text.contains('\0') {
                return Err(bad(
                    "properties",
                    &"expected texts of at most 65535 bytes without U+0000",
                ));
            }
        }
        let expiry = properties
            .message_expiry_interval
            .map(u64::from)
            .map(|seconds| now.plus_secs(seconds));
        let forwarded = MessageProperties {
            payload_format: properties.payload_format_indicator,
            content_type: properties.content_type.map(Into::into),
            response_topic: properties.response_topic.map(Into::into),
            correlation_data: properties
                .correlation_data
                .map(|text| text.into_bytes().into()),
            user_properties: properties
                .user_properties
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        };
        let head = MessageHead {
            topic,
            qos,
            retain: body.retain,
            publisher: Some(client.into()),
            received_at: now,
            expires_at: expiry,
            properties: (!forwarded.is_empty()).then(|| Box::new(forwarded)),
        };
        Ok((Message::new(head, &payload), settings.max_qos))
    }

    /// The rules of a PUBLISH, for a client of this name whose user is the account.
    async fn authorize(
        &self,
        who: &Principal,
        from: SocketAddr,
        client: &str,
        message: &Message,
    ) -> Result<(), ApiError> {
        let info = Arc::new(ClientInfo {
            username: Some(who.name.as_str().into()),
            ..ClientInfo::new(client, from, "api", Protocol::Mqtt(ProtocolVersion::V5))
        });
        let action = Action::Publish {
            topic: message.topic(),
            qos: message.qos(),
            retain: message.retain(),
        };
        let mut cache = AccessCache::new();
        let check = self
            .broker
            .acl()
            .check(&info, &mut cache, action, Instant::now());
        let verdict = match check {
            Check::Now(verdict) => verdict,
            Check::Later(judged) => judged.await.verdict,
        };
        if verdict.allowed() {
            return Ok(());
        }
        self.broker.metrics().count(Counter::PublishDenied);
        Err(ApiError {
            code: "NOT_AUTHORIZED",
            ..ApiError::forbidden(format!(
                "the rules do not let {client} publish to {}; POST /api/v1/acl/test says which",
                message.topic()
            ))
        })
    }
}
