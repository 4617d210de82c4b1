//! Why did a message arrive, or not: the drop ledger and the explanation.

use axum::Json as Answer;
use axum::extract::State;
use nightjar_mqtt::TopicName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::{Data, limit};
use super::{App, qos};
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Json, Query};

/// Deliveries that were dropped.
#[derive(Debug, Serialize, ToSchema)]
pub struct DropView {
    /// The last of them.
    at: String,
    /// Whose.
    clientid: String,
    /// Topic, if it was one.
    topic: Option<String>,
    /// `queue_full`, `qos0_queue_full`, `expired`, `too_large`, `session_ended`, `offline`, `denied`.
    reason: String,
    /// How many.
    count: u64,
    /// Who had published.
    from_clientid: Option<String>,
}

/// Which drops.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DropsQuery {
    /// Entries, 1 to 1000.
    limit: Option<usize>,
    /// Of this client.
    clientid: Option<String>,
    /// Of exactly this topic.
    topic: Option<String>,
}

/// What was dropped last, newest first; in a flood not every drop is noted here, the counters know of all
#[utoipa::path(get, path = "/drops", tag = "why", params(DropsQuery), responses((status = 200, body = Data<DropView>), CommonErrors))]
pub async fn drops(
    State(shared): App,
    Query(query): Query<DropsQuery>,
) -> Result<Answer<Data<DropView>>, ApiError> {
    let limit = limit(query.limit)?;
    let found = shared.broker.drops().list(limit, |drop| {
        query
            .clientid
            .as_deref()
            .is_none_or(|id| *drop.client_id == *id)
            && query.topic.as_deref().is_none_or(|topic| {
                drop.topic
                    .as_ref()
                    .is_some_and(|have| have.as_str() == topic)
            })
    });
    let view = |drop: nightjar_broker::observe::Drop| DropView {
        at: drop.at.to_rfc3339(),
        clientid: drop.client_id.to_string(),
        topic: drop.topic.map(|topic| topic.to_string()),
        reason: drop.reason.as_str().to_owned(),
        count: drop.count,
        from_clientid: drop.publisher.as_deref().map(str::to_owned),
    };
    Ok(Answer(Data {
        data: found.into_iter().map(view).collect(),
    }))
}

/// Which message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuestion {
    /// Client identifier of the publisher.
    from: Option<String>,
    /// Client identifier of the subscriber.
    to: String,
    /// Topic name.
    topic: String,
    /// QoS of the PUBLISH.
    #[serde(default)]
    #[schema(maximum = 2)]
    qos: u8,
}

/// One check of the message's way.
#[derive(Debug, Serialize, ToSchema)]
pub struct Step {
    /// `publisher`, `publish_acl`, `session`, `subscription`, `subscribe_acl`, `no_local`, `share_group`, `offline`,
    /// `queue`, `drops`.
    pub check: String,
    /// Does it let the message pass? `null`: it depends.
    pub ok: Option<bool>,
    /// In words.
    pub text: String,
}

/// Why a client does or does not get a message.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// `yes`, `no`, `maybe`.
    pub delivered: String,
    /// What decides.
    pub summary: String,
    /// The checks in their order.
    pub steps: Vec<Step>,
}

/// Why does B get, or not get, a message of A?
#[utoipa::path(post, path = "/explain", tag = "why", request_body = ExplainQuestion, responses((status = 200, body = Explanation), CommonErrors))]
pub async fn explain(
    State(shared): App,
    Json(question): Json<ExplainQuestion>,
) -> Result<Answer<Explanation>, ApiError> {
    let qos = qos(question.qos)?;
    TopicName::new(&*question.topic)
        .map_err(|error| ApiError::bad_request(format!("topic: {error}")))?;
    let explained = shared
        .broker
        .explain(question.from.as_deref(), &question.to, &question.topic, qos)
        .await;
    Ok(Answer(Explanation {
        delivered: match explained.delivered() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "maybe",
        }
        .to_owned(),
        summary: explained.summary(),
        steps: explained
            .steps
            .into_iter()
            .map(|step| Step {
                check: step.check.to_owned(),
                ok: step.ok,
                text: step.text,
            })
            .collect(),
    }))
}
