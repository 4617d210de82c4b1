//! Traces.

use std::sync::Arc;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use nightjar_broker::Timestamp;
use nightjar_broker::observe::{Trace, TraceError, TraceSubject};
use nightjar_mqtt::TopicFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::bans::duration;
use super::list::Data;
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Json, Path, Query};
use crate::traces::{DEFAULT_SIZE, DEFAULT_TIME, MAX_SIZE, MAX_TIME};

/// A trace.
#[derive(Debug, Serialize, ToSchema)]
pub struct TraceView {
    /// Its name.
    name: String,
    /// `clientid`, `topic`, `ip_address`.
    #[serde(rename = "type")]
    kind: String,
    /// What it follows.
    value: String,
    /// `running` or `stopped`.
    status: String,
    /// Since when.
    start_at: String,
    /// Until when at the latest.
    end_at: String,
    /// Bytes written.
    log_size: u64,
}

/// What a trace follows.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A client identifier.
    #[serde(rename = "clientid")]
    ClientId,
    /// A topic filter.
    Topic,
    /// An address.
    IpAddress,
}

/// A trace to be started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTrace {
    /// Its name: letters, digits, `-`, `_`.
    name: String,
    // `clientid`, `topic`, `ip_address`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: Kind,
    /// Client identifier, topic filter, or address.
    value: String,
    /// For how long: `90s`, `15m`, `1h`; at most a day, 10 minutes where nothing is said.
    #[serde(rename = "for")]
    duration: Option<String>,
    /// Bytes after which it stops; at most 256 MiB, 16 MiB where nothing is said.
    max_size: Option<u64>,
}

/// A trace as lists show it.
#[must_use]
pub fn view(trace: &Trace) -> TraceView {
    TraceView {
        name: trace.name.clone(),
        kind: trace.subject.kind().to_owned(),
        value: trace.subject.to_string(),
        status: if trace.is_running(Timestamp::now()) {
            "running"
        } else {
            "stopped"
        }
        .to_owned(),
        start_at: trace.start.to_rfc3339(),
        end_at: trace.until.to_rfc3339(),
        log_size: trace.size(),
    }
}

/// Traces
#[utoipa::path(get, path = "/trace", tag = "trace", responses((status = 200, body = Data<TraceView>), CommonErrors))]
pub async fn list(State(shared): App) -> Answer<Data<TraceView>> {
    let all = shared.broker.tracer().list();
    Answer(Data {
        data: all.iter().map(|trace| view(trace)).collect(),
    })
}

/// Start a trace
#[utoipa::path(post, path = "/trace", tag = "trace", request_body = NewTrace, responses((status = 201, body = TraceView), CommonErrors))]
pub async fn start(
    State(shared): App,
    Json(new): Json<NewTrace>,
) -> Result<(StatusCode, Answer<TraceView>), ApiError> {
    let subject = match new.kind {
        Kind::ClientId => TraceSubject::Client(new.value.as_str().into()),
        Kind::Topic => TraceSubject::Topic(
            TopicFilter::new(new.value.as_str())
                .map_err(|error| ApiError::bad_request(format!("value: {error}")))?,
        ),
        Kind::IpAddress => TraceSubject::Address(
            new.value
                .parse::<std::net::IpAddr>()
                .map_err(|_| ApiError::bad_request("value: expected an address"))?
                .to_canonical(),
        ),
    };
    let time = match &new.duration {
        None => DEFAULT_TIME,
        Some(text) => duration("for", text)?,
    };
    let size = new.max_size.unwrap_or(DEFAULT_SIZE);
    if time > MAX_TIME || !(1..=MAX_SIZE).contains(&size) {
        return Err(ApiError::bad_request(
            "expected `for` of at most 1d and `max_size` of 1 byte to 256 MiB",
        ));
    }
    let name = new.name.clone();
    let trace = shared
        .blocking(move |shared| shared.start_trace(&name, subject, time, size))
        .await??;
    Ok((StatusCode::CREATED, Answer(view(&trace))))
}

impl From<TraceError> for ApiError {
    fn from(error: TraceError) -> Self {
        Self::conflict(error.to_string())
    }
}

fn find(shared: &crate::shared::Shared, name: &str) -> Result<Arc<Trace>, ApiError> {
    shared
        .broker
        .tracer()
        .find(name)
        .ok_or_else(|| ApiError::not_found(format!("there is no trace {name:?}")))
}

/// Stop a trace; what it wrote stays
#[utoipa::path(put, path = "/trace/{name}/stop", tag = "trace", params(("name" = String, Path)),
    responses((status = 200, body = TraceView), CommonErrors))]
pub async fn stop(
    State(shared): App,
    Path(name): Path<String>,
) -> Result<Answer<TraceView>, ApiError> {
    let trace = find(&shared, &name)?;
    trace.stop();
    shared.broker.tracer().refresh(Timestamp::now());
    Ok(Answer(view(&trace)))
}

/// Remove a trace and what it wrote
#[utoipa::path(delete, path = "/trace/{name}", tag = "trace", params(("name" = String, Path)),
    responses((status = 204), CommonErrors))]
pub async fn remove(State(shared): App, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    find(&shared, &name)?;
    shared
        .blocking(move |shared| shared.remove_trace(&name))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All that a trace wrote, as text
#[utoipa::path(get, path = "/trace/{name}/download", tag = "trace", params(("name" = String, Path)),
    responses((status = 200, body = String, content_type = "text/plain"), CommonErrors))]
pub async fn download(State(shared): App, Path(name): Path<String>) -> Result<Response, ApiError> {
    let trace = find(&shared, &name)?;
    let bytes = shared
        .blocking(move |shared| shared.read_trace(&trace, 0, MAX_SIZE))
        .await??;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, Body::from(bytes)).into_response())
}

/// Which part of what a trace wrote.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Byte to begin at.
    position: Option<u64>,
    /// Most bytes, 1 to 1048576.
    bytes: Option<u64>,
}

/// A part of what a trace wrote.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogPart {
    /// Text.
    items: String,
    /// Where it goes on.
    meta: LogMeta,
}

/// Where it goes on.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogMeta {
    /// Byte behind this part.
    position: u64,
    /// Bytes of this part.
    bytes: u64,
}

/// A part of what a trace wrote, to follow it
#[utoipa::path(get, path = "/trace/{name}/log", tag = "trace", params(("name" = String, Path), LogQuery),
    responses((status = 200, body = LogPart), CommonErrors))]
pub async fn log(
    State(shared): App,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Answer<LogPart>, ApiError> {
    let trace = find(&shared, &name)?;
    let (from, most) = (query.position.unwrap_or(0), query.bytes.unwrap_or(65_536));
    if !(1..=1_048_576).contains(&most) {
        return Err(ApiError::bad_request("bytes: expected 1 to 1048576"));
    }
    let bytes = shared
        .blocking(move |shared| shared.read_trace(&trace, from, most))
        .await??;
    let count = bytes.len() as u64;
    Ok(Answer(LogPart {
        items: String::from_utf8_lossy(&bytes).into_owned(),
        meta: LogMeta {
            position: from.saturating_add(count),
            bytes: count,
        },
    }))
}
