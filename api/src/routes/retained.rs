//! Retained messages.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use nightjar_broker::{Message, Timestamp};
use nightjar_mqtt::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::list::{List, decode, limit};
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Path, Query};
use crate::shared::when;

/// A retained message.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RetainedView {
    /// Topic name.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// Bytes of the payload.
    pub payload_size: usize,
    /// When it was published.
    pub publish_at: Option<String>,
    /// When it expires.
    pub expires_at: Option<String>,
    /// Who published it.
    pub from_clientid: Option<String>,
}

/// A retained message with its payload.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetainedFull {
    /// All but the payload.
    #[serde(flatten)]
    head: RetainedView,
    /// Payload in base64.
    payload: String,
    /// Payload as text, if it is UTF-8.
    payload_text: Option<String>,
}

/// A message as the list shows it.
pub fn view(message: &Message) -> RetainedView {
    let head = message.head();
    RetainedView {
        topic: head.topic.to_string(),
        qos: head.qos.bits(),
        payload_size: message.payload().len(),
        publish_at: when(head.received_at),
        expires_at: head.expires_at.and_then(when),
        from_clientid: head.publisher.as_deref().map(str::to_owned),
    }
}

/// Which retained messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RetainedQuery {
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
    /// Topic filter; left out: `#`, which does not reach `$SYS`.
    filter: Option<String>,
}

/// Retained messages in the order of topics, without payloads
#[utoipa::path(get, path = "/retained", tag = "retained", params(RetainedQuery),
    responses((status = 200, body = List<RetainedView>), CommonErrors))]
pub async fn list(
    State(shared): App,
    Query(query): Query<RetainedQuery>,
) -> Result<Answer<List<RetainedView>>, ApiError> {
    let limit = limit(query.limit)?;
    let after: Option<String> = decode(query.cursor.as_deref())?;
    let filter = TopicFilter::new(query.filter.unwrap_or_else(|| "#".to_owned()))
        .map_err(|error| ApiError::bad_request(format!("filter: {error}")))?;
    let page = shared
        .walk(move |shared| shared.page_retained(&filter, after.as_deref(), limit))
        .await?;
    let next = page.1.then(|| page.0.last().map(|last| last.topic.clone()));
    Ok(Answer(List::new(page.0, next.flatten().as_ref())))
}

impl crate::shared::Shared {
    /// The first `limit` retained messages behind a topic, and whether there are more.
    pub fn page_retained(
        &self,
        filter: &TopicFilter,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<RetainedView>, bool) {
        let mut first = std::collections::BTreeMap::new();
        let now = Timestamp::now();
        self.broker
            .read_retained(filter.routing_filter(), now, &mut |message| {
                let topic = message.topic();
                if after.is_some_and(|after| topic.as_str() <= after)
                    || first.len() > limit
                        && first
                            .last_key_value()
                            .is_some_and(|(last, _)| topic >= last)
                {
                    return;
                }
                first.insert(topic.clone(), view(message));
                if first.len() > limit + 1 {
                    first.pop_last();
                }
            });
        let more = first.len() > limit;
        (first.into_values().take(limit).collect(), more)
    }

    /// The retained message of a topic with its payload.
    ///
    /// # Errors
    /// There is none.
    pub fn retained_full(&self, topic: &str) -> Result<RetainedFull, ApiError> {
        let message = self.retained_of(topic)?;
        Ok(RetainedFull {
            head: view(&message),
            payload: base64::engine::general_purpose::STANDARD.encode(message.payload()),
            payload_text: String::from_utf8(message.payload().to_vec()).ok(),
        })
    }

    fn retained_of(&self, topic: &str) -> Result<Message, ApiError> {
        let name = TopicName::new(topic)
            .map_err(|error| ApiError::bad_request(format!("topic: {error}")))?;
        let mut found = None;
        self.broker
            .read_retained(&name, Timestamp::now(), &mut |message| {
                found = Some(message.clone());
            });
        found.ok_or_else(|| ApiError::not_found(format!("no message is retained for {topic:?}")))
    }
}

/// The retained message of a topic; `/` in it is written `%2F`
#[utoipa::path(get, path = "/retained/{topic}", tag = "retained", params(("topic" = String, Path)),
    responses((status = 200, body = RetainedFull), CommonErrors))]
pub async fn one(
    State(shared): App,
    Path(topic): Path<String>,
) -> Result<Answer<RetainedFull>, ApiError> {
    shared.retained_full(&topic).map(Answer)
}

/// Forget the retained message of a topic; `/` in it is written `%2F`
#[utoipa::path(delete, path = "/retained/{topic}", tag = "retained", params(("topic" = String, Path)),
    responses((status = 204), CommonErrors))]
pub async fn remove(State(shared): App, Path(topic): Path<String>) -> Result<StatusCode, ApiError> {
    let message = shared.retained_of(&topic)?;
    shared
        .broker
        .forget_retained(message.topic())
        .wait()
        .await
        .map_err(|code| {
            ApiError::unavailable(format!(
                "the durable store did not take it (0x{:02X})",
                code.code()
            ))
        })?;
    Ok(StatusCode::NO_CONTENT)
}
