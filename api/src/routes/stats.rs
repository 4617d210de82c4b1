//! Gauges, counters and history.

use std::collections::BTreeMap;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use nightjar_broker::Counter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use crate::error::{ApiError, CommonErrors};
use crate::extract::Query;
use crate::history::{Range, SERIES};
use crate::shared::Shared;

/// Gauges of the node, and the highest each was since the start (looked at every five seconds, and whenever asked).
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Stats {
    /// Connected clients.
    #[serde(rename = "connections.count")]
    pub connections: u64,
    /// The most there were.
    #[serde(rename = "connections.max")]
    pub connections_max: u64,
    /// Sessions, connected or not.
    #[serde(rename = "sessions.count")]
    pub sessions: u64,
    /// The most there were.
    #[serde(rename = "sessions.max")]
    pub sessions_max: u64,
    /// Sessions that the durable store keeps.
    #[serde(rename = "durable_sessions.count")]
    pub durable_sessions: u64,
    /// Subscriptions.
    #[serde(rename = "subscriptions.count")]
    pub subscriptions: u64,
    /// The most there were.
    #[serde(rename = "subscriptions.max")]
    pub subscriptions_max: u64,
    /// Subscriptions in shared groups.
    #[serde(rename = "subscriptions.shared.count")]
    pub shared: u64,
    /// Distinct topic filters.
    #[serde(rename = "topics.count")]
    pub topics: u64,
    /// The most there were.
    #[serde(rename = "topics.max")]
    pub topics_max: u64,
    /// Retained messages.
    #[serde(rename = "retained.count")]
    pub retained: u64,
    /// The most there were.
    #[serde(rename = "retained.max")]
    pub retained_max: u64,
    /// Bytes of retained messages.
    #[serde(rename = "retained.bytes")]
    pub retained_bytes: u64,
}

impl Shared {
    /// The gauges now. None of them walks over clients.
    pub(crate) fn stats(&self) -> Stats {
        let broker = &self.broker;
        let (retained, retained_bytes) = broker.store().retained_size();
        let (subscriptions, shared) = broker.subscriptions();
        let now = [
            broker.connected() as u64,
            broker.sessions() as u64,
            subscriptions as u64,
            broker.router().filters() as u64,
            retained as u64,
        ];
        let max = self.history.max(now);
        Stats {
            connections: now[0],
            connections_max: max[0],
            sessions: now[1],
            sessions_max: max[1],
            durable_sessions: broker.store().sessions() as u64,
            subscriptions: now[2],
            subscriptions_max: max[2],
            shared: shared as u64,
            topics: now[3],
            topics_max: max[3],
            retained: now[4],
            retained_max: max[4],
            retained_bytes: retained_bytes as u64,
        }
    }
}

/// Gauges
#[utoipa::path(get, path = "/stats", tag = "node", responses((status = 200, body = Stats), CommonErrors))]
pub async fn stats(State(shared): App) -> Answer<Stats> {
    Answer(shared.stats())
}

/// Counters since the start
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, body = BTreeMap<String, u64>), CommonErrors))]
pub async fn metrics(State(shared): App) -> Answer<BTreeMap<&'static str, u64>> {
    let metrics = shared.broker.metrics();
    Answer(
        Counter::ALL
            .iter()
            .map(|counter| (counter.name(), metrics.get(*counter)))
            .collect(),
    )
}

/// `GET /metrics`: Prometheus' text format.
pub async fn prometheus(State(shared): App) -> Response {
    let text = crate::metrics::render(&shared);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Which time.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MonitorQuery {
    /// `hour` (a point every 5 s), `day` (2 min) or `week` (15 min).
    #[param(inline)]
    range: Option<Range>,
}

/// Figures for charts.
#[derive(Serialize, ToSchema)]
pub struct Monitor {
    /// Seconds between points.
    interval: u64,
    /// Milliseconds since the epoch of the first point.
    from: u64,
    /// The series by name, all of one length, oldest point first.
    series: BTreeMap<&'static str, Vec<f32>>,
}

/// Figures of the last hour, day or week
#[utoipa::path(get, path = "/monitor", tag = "node", params(MonitorQuery), responses((status = 200, body = Monitor), CommonErrors))]
pub async fn monitor(
    State(shared): App,
    Query(query): Query<MonitorQuery>,
) -> Result<Answer<Monitor>, ApiError> {
    let (interval, from, points) = shared.history.read(query.range.unwrap_or_default());
    let series = SERIES
        .iter()
        .enumerate()
        .map(|(at, name)| (*name, points.iter().map(|point| point[at]).collect()));
    Ok(Answer(Monitor {
        interval,
        from,
        series: series.collect(),
    }))
}
