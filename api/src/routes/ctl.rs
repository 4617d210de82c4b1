//! `nightjar ctl --url`: the verbs of the Unix socket over HTTP, for admins.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::io::AsyncReadExt as _;

use super::App;

/// Bytes of an answer sent at a time.
const CHUNK: usize = 16 * 1024;

/// `POST /api/v1/ctl`: one request line; the answer is lines of JSON, sent as they come.
pub async fn ctl(State(shared): App, body: Bytes) -> Response {
    let answer = shared.host.ctl(body.to_vec());
    let lines = unfold(answer, async |mut answer| {
        let mut chunk = Vec::with_capacity(CHUNK);
        match answer.read_buf(&mut chunk).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Bytes::from(chunk)), answer)),
            Err(error) => Some((Err(error), answer)),
        }
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}
