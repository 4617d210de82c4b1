//! What the MQTT-SN gateway shows: gateways, sleepers, topic ids.

use axum::Json as Answer;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::App;
use super::list::{Data, List, limit};
use crate::error::{ApiError, CommonErrors};
use crate::extract::Query;
use crate::shared::Shared;

/// A page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SnQuery {
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
    /// Of this client.
    clientid: Option<String>,
}

fn rows(shared: &Shared, what: &str, client_id: Option<&str>) -> Result<Vec<Value>, ApiError> {
    shared
        .host
        .mqttsn(what, client_id)
        .ok_or_else(|| ApiError::not_found("this node has no MQTT-SN gateway"))
}

async fn page(
    shared: std::sync::Arc<Shared>,
    what: &'static str,
    query: SnQuery,
) -> Result<Answer<List<Value>>, ApiError> {
    let limit = limit(query.limit)?;
    let all = shared
        .walk(move |shared| rows(shared, what, query.clientid.as_deref()))
        .await??;
    let mut keyed: Vec<(String, usize, Value)> = all
        .into_iter()
        .enumerate()
        .map(|(at, row)| {
            (
                row["clientid"].as_str().unwrap_or_default().to_owned(),
                at,
                row,
            )
        })
        .collect();
    keyed.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let list = List::cut(keyed, limit, query.cursor.as_deref(), |row| {
        (row.0.clone(), row.1)
    })?;
    Ok(Answer(List {
        data: list.data.into_iter().map(|row| row.2).collect(),
        meta: list.meta,
    }))
}

/// MQTT-SN gateways
#[utoipa::path(get, path = "/mqttsn/gateways", tag = "mqttsn", responses((status = 200, body = Data<Value>), CommonErrors))]
pub async fn gateways(State(shared): App) -> Result<Answer<Data<Value>>, ApiError> {
    rows(&shared, "gateways", None).map(|data| Answer(Data { data }))
}

/// Clients asleep
#[utoipa::path(get, path = "/mqttsn/sleepers", tag = "mqttsn", params(SnQuery),
    responses((status = 200, body = List<Value>), CommonErrors))]
pub async fn sleepers(
    State(shared): App,
    Query(query): Query<SnQuery>,
) -> Result<Answer<List<Value>>, ApiError> {
    page(shared, "sleepers", query).await
}

/// Topic ids
#[utoipa::path(get, path = "/mqttsn/topics", tag = "mqttsn", params(SnQuery),
    responses((status = 200, body = List<Value>), CommonErrors))]
pub async fn topics(
    State(shared): App,
    Query(query): Query<SnQuery>,
) -> Result<Answer<List<Value>>, ApiError> {
    page(shared, "topics", query).await
}
