//! The gate before every route: who asks, may they, and what is noted of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use nightjar_broker::Timestamp;
use tokio::time::{Instant, timeout};

use super::audit::{AuditEntry, redacted};
use super::{Principal, Role};
use crate::error::ApiError;
use crate::server::MAX_BODY;
use crate::shared::Shared;

/// Time for a request's body to arrive.
const BODY_TIME: Duration = Duration::from_secs(20);

/// Where the request came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Lets a request through to its route, or not.
pub async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = pass(&shared, request, next)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    shared.broker.latencies().http.observe(ms);
    response
}

async fn pass(shared: &Arc<Shared>, request: Request, next: Next) -> Result<Response, ApiError> {
    let path = request.uri().path();
    let Some(needed) = needed_role(request.method(), path, shared.host.settings().metrics_auth)
    else {
        return Ok(next.run(request).await);
    };
    let from = peer(&request);
    let who = identify(shared, request.headers(), from).await?;
    // Everybody may change their own password.
    let own = !who.is_key
        && request.method() == Method::PUT
        && path
            .strip_prefix("/api/v1/accounts/")
            .and_then(|rest| rest.strip_suffix("/password"))
            == Some(&*who.name);
    if who.role < needed && !own {
        return Err(ApiError::forbidden(format!(
            "{} is {}, this needs {}",
            who.name,
            role_name(who.role),
            role_name(needed)
        )));
    }
    let changes = is_change(request.method(), path);
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(who.clone());
    let body = match timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(ApiError::too_large()),
        Err(_) => return Err(ApiError::bad_request("the body did not arrive in time")),
    };
    if !changes {
        return Ok(next.run(Request::from_parts(parts, Body::from(body))).await);
    }
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let kept = body.clone();
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    note(
        shared,
        &who,
        from,
        &method,
        path,
        &kept,
        response.status().as_u16(),
    );
    Ok(response)
}

fn note(
    shared: &Arc<Shared>,
    who: &Principal,
    from: SocketAddr,
    method: &Method,
    path: String,
    body: &Bytes,
    status: u16,
) {
    let entry = AuditEntry {
        id: 0,
        at: Timestamp::now().to_rfc3339(),
        who: who.name.clone(),
        role: role_name(who.role).to_owned(),
        from: from.ip().to_canonical().to_string(),
        method: method.to_string(),
        path,
        status,
        body: redacted(body),
    };
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || shared.audit.record(entry));
}

/// The peer of a request; one that did not come through our server has none, and is nobody's.
pub fn peer(request: &Request) -> SocketAddr {
    request
        .extensions()
        .get::<Peer>()
        .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |peer| peer.0)
}

/// Who asks, by token, key or password.
async fn identify(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    from: SocketAddr,
) -> Result<Principal, ApiError> {
    let now = Timestamp::now();
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized(
            "expected `authorization: Bearer TOKEN` of POST /api/v1/login, or an API key by basic authentication",
        ));
    };
    let value = value
        .to_str()
        .map_err(|_| ApiError::unauthorized("the authorization header is no text"))?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return shared
            .tokens
            .find_soon(rest.trim(), now)
            .await
            .ok_or_else(|| {
                ApiError::unauthorized("the token is unknown or has expired; log in again")
            });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(ApiError::unauthorized("expected Bearer or Basic"));
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(rest.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((name, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
        return Err(ApiError::unauthorized("expected base64 of name:secret"));
    };
    if let Err(wait) = shared.limiter.check(from.ip(), now) {
        return Err(ApiError::too_many(wait));
    }
    if let Some(who) = shared.accounts.key(name, secret, now) {
        return Ok(who);
    }
    shared.limiter.wrong(from.ip(), now);
    Err(ApiError::unauthorized(
        "no API key has this name and secret; people log in by POST /api/v1/login",
    ))
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// The least role for a request; `None`: nobody has to say who they are.
fn needed_role(method: &Method, path: &str, metrics_auth: bool) -> Option<Role> {
    if path == "/metrics" {
        return metrics_auth.then_some(Role::Viewer);
    }
    let rest = path
        .strip_prefix("/api/v1/")
        .or_else(|| path.strip_prefix("/api/v5/"));
    let Some(rest) = rest else {
        return (path == "/api" || path.starts_with("/api/")).then_some(Role::Viewer);
    };
    let first = rest.split('/').next().unwrap_or_default();
    if matches!(rest, "login" | "openapi.json" | "live") {
        return None;
    }
    let reads = method == Method::GET || method == Method::HEAD || method == Method::OPTIONS;
    Some(match first {
        "accounts" | "api_keys" | "audit" | "ctl" => Role::Admin,
        _ if reads => Role::Viewer,
        "logout" | "explain" => Role::Viewer,
        "clients" | "publish" | "retained" | "banned" | "alarms" | "trace" | "listeners"
        | "acl" | "drops" => Role::Operator,
        _ => Role::Admin,
    })
}

/// Is it to be noted in the audit log?
fn is_change(method: &Method, path: &str) -> bool {
    let reads = method == Method::GET || method == Method::HEAD || method == Method::OPTIONS;
    !reads
        && !path.ends_with("/acl/test")
        && !path.ends_with("/explain")
        && !path.ends_with("/logout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_least_role() {
        let role = |method: &str, path: &str| needed_role(&method.parse().unwrap(), path, true);
        for (method, path, wanted) in [
            ("GET", "/", None),
            ("GET", "/status", None),
            ("POST", "/api/v1/login", None),
            ("GET", "/api/v1/openapi.json", None),
            ("GET", "/metrics", Some(Role::Viewer)),
            ("GET", "/api/v1/clients", Some(Role::Viewer)),
            ("GET", "/api/v5/clients", Some(Role::Viewer)),
            ("GET", "/api/v9/clients", Some(Role::Viewer)),
            ("GET", "/api", Some(Role::Viewer)),
            ("DELETE", "/api/v1/clients/a", Some(Role::Operator)),
            ("POST", "/api/v1/publish/bulk", Some(Role::Operator)),
            ("POST", "/api/v1/users", Some(Role::Admin)),
            ("PUT", "/api/v1/log", Some(Role::Admin)),
            ("POST", "/api/v1/config/reload", Some(Role::Admin)),
            ("GET", "/api/v1/accounts", Some(Role::Admin)),
            ("GET", "/api/v1/audit", Some(Role::Admin)),
            ("POST", "/api/v1/ctl", Some(Role::Admin)),
            ("POST", "/api/v1/unknown", Some(Role::Admin)),
        ] {
            assert_eq!(role(method, path), wanted, "{method} {path}");
        }
        assert_eq!(needed_role(&Method::GET, "/metrics", false), None);
    }
}
