//! Tokens for people.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::{Extension, Json as Answer};
use nightjar_broker::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use crate::access::{Peer, Principal, Role};
use crate::error::{ApiError, CommonErrors};
use crate::extract::Json;

/// Name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name of the account.
    pub username: String,
    /// Its password.
    #[schema(format = "password")]
    pub password: String,
}

/// A token.
#[derive(Serialize, ToSchema)]
pub struct Token {
    /// For `authorization: Bearer ...`. Ends an hour after its last use.
    token: String,
    /// What it allows.
    role: Role,
    /// Whose it is.
    username: String,
    /// When it ends at the latest.
    expires_at: String,
    /// Version of the node.
    version: String,
}

/// Who asks.
#[derive(Serialize, ToSchema)]
pub struct WhoAmI {
    /// Name of the account or API key.
    username: String,
    /// What it may do.
    role: Role,
}

/// Log in with name and password
#[utoipa::path(post, path = "/login", tag = "access", security(()), request_body = Login,
    responses((status = 200, body = Token), CommonErrors))]
pub async fn login(
    State(shared): App,
    Extension(Peer(from)): Extension<Peer>,
    Json(body): Json<Login>,
) -> Result<Answer<Token>, ApiError> {
    let now = Timestamp::now();
    shared
        .limiter
        .check(from.ip(), now)
        .map_err(ApiError::too_many)?;
    // Counted before it is checked, so that many at once are not all checked.
    shared.limiter.wrong(from.ip(), now);
    let found = shared
        .blocking(move |shared| {
            let configured = shared.host.settings().admin_password;
            shared
                .accounts
                .login(&body.username, &body.password, configured.as_deref())
        })
        .await?;
    let Some(who) = found else {
        tracing::warn!(%from, "wrong user name or password at the HTTP API");
        return Err(ApiError::bad_login());
    };
    shared.limiter.right(from.ip());
    tracing::info!(%from, who = who.name, "logged in at the HTTP API");
    let (token, ends) = shared.tokens.issue(who.clone(), now).await?;
    Ok(Answer(Token {
        token,
        role: who.role,
        username: who.name,
        expires_at: ends.to_rfc3339(),
        version: shared.host.version().to_owned(),
    }))
}

/// End the token of this request
#[utoipa::path(post, path = "/logout", tag = "access", responses((status = 204), CommonErrors))]
pub async fn logout(State(shared): App, request: Request) -> Result<StatusCode, ApiError> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '));
    if let Some((_, token)) = token {
        shared.tokens.revoke(token.trim()).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Say who asks
#[utoipa::path(get, path = "/whoami", tag = "access", responses((status = 200, body = WhoAmI), CommonErrors))]
pub async fn whoami(Extension(who): Extension<Principal>) -> Answer<WhoAmI> {
    Answer(WhoAmI {
        username: who.name,
        role: who.role,
    })
}
