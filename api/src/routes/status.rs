//! Is the node there, and is it well?

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nightjar_broker::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use crate::error::{ApiError, CommonErrors};
use crate::shared::{Shared, when};

/// How the node is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// Its name.
    node: String,
    /// Version of the program.
    version: String,
    /// `running` or `stopping`.
    state: String,
    /// Does it serve clients?
    ready: bool,
    /// Seconds since the start.
    uptime: u64,
    /// When it was started.
    started_at: Option<String>,
    /// `sync`, `async` or `memory`.
    durability: String,
    /// Connected clients.
    connections: usize,
    /// Sessions, connected or not.
    sessions: usize,
    /// Retained messages.
    retained: usize,
    /// Alarms that are raised.
    alarms: usize,
}

/// How the node is
#[utoipa::path(get, path = "/status", tag = "node", responses((status = 200, body = Status), CommonErrors))]
pub async fn status(State(shared): App) -> Json<Status> {
    let broker = &shared.broker;
    let stopping = shared.host.is_stopping();
    let ready = why_not(&shared).is_none();
    Json(Status {
        node: broker.node().to_string(),
        version: shared.host.version().to_owned(),
        state: if stopping { "stopping" } else { "running" }.to_owned(),
        ready,
        uptime: Timestamp::now().since(broker.started()) / 1000,
        started_at: when(broker.started()),
        durability: shared.host.durability(),
        connections: broker.connected(),
        sessions: broker.sessions(),
        retained: broker.store().retained_size().0,
        alarms: broker.alarms().active_count(),
    })
}

/// Why no client should be sent here: the node stops, or waits for its cluster, or takes no clients.
fn why_not(shared: &Shared) -> Option<String> {
    if shared.host.is_stopping() {
        return Some("stopping".to_owned());
    }
    if let Some(failure) = shared.host.failure() {
        return Some(failure.to_owned());
    }
    if !shared.broker.store().is_serving() {
        let waits = "waiting for its cluster";
        // Anybody may ask this: not the names of nodes and files that follow.
        return Some(match shared.host.problem() {
            Some(problem) => {
                let (short, _) = problem.split_once(": ").unwrap_or((&problem, ""));
                format!("{waits}: {short}")
            }
            None => waits.to_owned(),
        });
    }
    let closed = shared.broker.is_closed();
    closed.then(|| "taking no clients".to_owned())
}

/// `GET /status`: for balancers, as text.
pub async fn text(State(shared): App) -> Response {
    let node = shared.broker.node();
    if let Some(why) = why_not(&shared) {
        let body = format!("Node {node} is {why}\nnightjar is not running\n");
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    format!("Node {node} is started\nnightjar is running\n").into_response()
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it serves clients.
pub async fn readyz(State(shared): App) -> Response {
    if let Some(why) = why_not(&shared) {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    }
    "ready\n".into_response()
}

/// `GET /api/v1/openapi.json`.
pub async fn openapi(State(shared): App) -> Result<Response, ApiError> {
    let document = shared.openapi().await?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    Ok((headers, document).into_response())
}

/// A known path, another method.
pub async fn method_not_allowed() -> ApiError {
    ApiError::method_not_allowed()
}
