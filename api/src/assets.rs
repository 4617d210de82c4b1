//! The dashboard's files, and what every answer carries for the browser's sake.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::shared::Shared;

/// Headers of every answer.
const ALWAYS: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Adds the headers of every answer.
pub async fn harden(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .map(str::to_owned);
    let api = request.uri().path().starts_with("/api");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = nightjar_ui::content_security_policy(host.as_deref());
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if api && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Answers every path that is no route of the API.
pub async fn serve(State(_): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") {
        return ApiError::not_found("there is no such resource; see /api/v1/openapi.json")
            .into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return ApiError::method_not_allowed().into_response();
    }
    let Some(asset) = nightjar_ui::asset(path) else {
        return ApiError::not_found("there is no such page").into_response();
    };
    let headers = request.headers();
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| asset.matches(value));
    let mut response = Response::builder()
        .header(header::ETAG, asset.etag)
        .header(header::CACHE_CONTROL, asset.cache_control())
        .header(header::VARY, "accept-encoding");
    if known {
        response = response.status(StatusCode::NOT_MODIFIED);
        return finish(response.body(Body::empty()));
    }
    response = response.header(header::CONTENT_TYPE, asset.content_type);
    if takes_gzip(headers) {
        response = response.header(header::CONTENT_ENCODING, "gzip");
        return finish(response.body(Body::from(asset.gzip)));
    }
    let mut plain = Vec::new();
    match flate2::read::GzDecoder::new(asset.gzip).read_to_end(&mut plain) {
        Ok(_) => finish(response.body(Body::from(plain))),
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}

fn finish(response: axum::http::Result<Response>) -> Response {
    response.unwrap_or_else(|error| ApiError::internal(error.to_string()).into_response())
}

/// Does `Accept-Encoding` name gzip without weight 0 (RFC 9110 section 12.5.3)?
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            matches!(parts.next(), Some("gzip" | "x-gzip" | "*"))
                && !parts.any(|part| {
                    part.strip_prefix("q=")
                        .and_then(|q| q.parse::<f32>().ok())
                        .is_some_and(|q| q <= 0.0)
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        for (value, wanted) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, *;q=0.1", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(value).unwrap(),
            );
            assert_eq!(takes_gzip(&headers), wanted, "{value}");
        }
    }
}
