//! Configuration and log level.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use crate::error::{ApiError, CommonErrors};
use crate::extract::Json;
use crate::host::ConfigView;

/// The configuration in force: each key, its value, and who gave it; secrets are left out
#[utoipa::path(get, path = "/config", tag = "config", responses((status = 200, body = ConfigView), CommonErrors))]
pub async fn show(State(shared): App) -> Result<Answer<ConfigView>, ApiError> {
    shared
        .blocking(|shared| shared.host.config())
        .await
        .map(Answer)
}

/// Read configuration, rules and certificates again
#[utoipa::path(post, path = "/config/reload", tag = "config", responses((status = 200, body = Value), CommonErrors))]
pub async fn reload(State(shared): App) -> Result<Answer<Value>, ApiError> {
    Ok(Answer(shared.host.reload().await?))
}

/// The log filter.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `info`, or with modules `info,nightjar_gateway=debug`.
    level: String,
}

/// The log filter
#[utoipa::path(get, path = "/log", tag = "config", responses((status = 200, body = LogLevel), CommonErrors))]
pub async fn log_level(State(shared): App) -> Answer<LogLevel> {
    Answer(LogLevel {
        level: shared.host.log_level(),
    })
}

/// Set the log filter until the next reload or start
#[utoipa::path(put, path = "/log", tag = "config", request_body = LogLevel, responses((status = 204), CommonErrors))]
pub async fn set_log_level(
    State(shared): App,
    Json(level): Json<LogLevel>,
) -> Result<StatusCode, ApiError> {
    shared.host.set_log_level(&level.level)?;
    Ok(StatusCode::NO_CONTENT)
}
