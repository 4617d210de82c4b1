//! `nightjar ctl --url`: the verbs of the Unix socket over HTTP, for admins.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::App;

/// `POST /api/v1/ctl`: one request line; the answer is lines of JSON.
pub async fn ctl(State(shared): App, body: Bytes) -> Response {
    let lines = shared.host.ctl(body.to_vec()).await;
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
}
