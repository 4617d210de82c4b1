//! Accounts, API keys and the audit log.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as Answer};
use nightjar_broker::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::list::{Data, List, decode, limit};
use crate::access::{AuditEntry, Principal, Role};
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Json, Path, Query};
use crate::shared::when;

/// An account.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    /// Its name.
    username: String,
    /// What it may do.
    role: Role,
    /// Free text.
    description: String,
}

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Its name: letters, digits, `-`, `_`, `.`, `@`.
    username: String,
    /// Its password, 8 to 256 bytes.
    #[schema(format = "password")]
    password: String,
    /// What it may do.
    role: Role,
    /// Free text.
    #[serde(default)]
    description: String,
}

/// What of an account changes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountChange {
    /// What it may do.
    role: Option<Role>,
    /// Free text.
    description: Option<String>,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password there is; needed for one's own account.
    #[schema(format = "password")]
    old_password: Option<String>,
    /// The new one, 8 to 256 bytes.
    #[schema(format = "password")]
    new_password: String,
}

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
pub struct KeyView {
    /// Its name.
    name: String,
    /// The user name of basic authentication.
    key: String,
    /// What it may do.
    role: Role,
    /// Free text.
    description: String,
    /// Is it valid?
    enable: bool,
    /// When it was made.
    created_at: Option<String>,
    /// When it ends; `null` is never.
    expires_at: Option<String>,
    /// The password of basic authentication; shown once, in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// An API key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Its name: letters, digits, `-`, `_`, `.`, `@`.
    name: String,
    /// What it may do.
    role: Role,
    /// Free text.
    #[serde(default)]
    description: String,
    /// When it ends, RFC 3339; left out: never.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// Accounts
#[utoipa::path(get, path = "/accounts", tag = "access", responses((status = 200, body = Data<AccountView>), CommonErrors))]
pub async fn accounts(State(shared): App) -> Answer<Data<AccountView>> {
    let all = shared.accounts.list().into_iter();
    let view = |(username, role, description)| AccountView {
        username,
        role,
        description,
    };
    Answer(Data {
        data: all.map(view).collect(),
    })
}

/// Make an account
#[utoipa::path(post, path = "/accounts", tag = "access", request_body = NewAccount,
    responses((status = 201, body = AccountView), CommonErrors))]
pub async fn add_account(
    State(shared): App,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Answer<AccountView>), ApiError> {
    let view = AccountView {
        username: new.username.clone(),
        role: new.role,
        description: new.description.clone(),
    };
    shared
        .blocking(move |shared| {
            shared
                .accounts
                .add(&new.username, &new.password, new.role, &new.description)
        })
        .await??;
    Ok((StatusCode::CREATED, Answer(view)))
}

/// Change an account
#[utoipa::path(put, path = "/accounts/{username}", tag = "access", params(("username" = String, Path)),
    request_body = AccountChange, responses((status = 204), CommonErrors))]
pub async fn change_account(
    State(shared): App,
    Path(name): Path<String>,
    Json(change): Json<AccountChange>,
) -> Result<StatusCode, ApiError> {
    shared
        .blocking(move |shared| {
            shared
                .accounts
                .change(&name, change.role, change.description.as_deref())?;
            if change.role.is_some() {
                shared.tokens.revoke_all_of(&name)?;
            }
            Ok::<_, ApiError>(())
        })
        .await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove an account
#[utoipa::path(delete, path = "/accounts/{username}", tag = "access", params(("username" = String, Path)),
    responses((status = 204), CommonErrors))]
pub async fn remove_account(
    State(shared): App,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared
        .blocking(move |shared| {
            shared.accounts.remove(&name)?;
            shared.tokens.revoke_all_of(&name)
        })
        .await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Set the password of an account; everybody may set their own
#[utoipa::path(put, path = "/accounts/{username}/password", tag = "access", params(("username" = String, Path)),
    request_body = PasswordChange, responses((status = 204), CommonErrors))]
pub async fn set_password(
    State(shared): App,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    Json(change): Json<PasswordChange>,
) -> Result<StatusCode, ApiError> {
    let own = who.name == name && !who.is_key;
    let done = shared
        .blocking(move |shared| {
            let configured = shared.host.settings().admin_password;
            if own {
                let old = change.old_password.as_deref().unwrap_or("");
                if shared
                    .accounts
                    .login(&name, old, configured.as_deref())
                    .is_none()
                {
                    return Err(ApiError::forbidden(
                        "old_password is not the password of the account",
                    ));
                }
            }
            shared
                .accounts
                .set_password(&name, &change.new_password, configured.is_some())?;
            shared.tokens.revoke_all_of(&name)?;
            Ok(())
        })
        .await?;
    done.map(|()| StatusCode::NO_CONTENT)
}

/// API keys
#[utoipa::path(get, path = "/api_keys", tag = "access", responses((status = 200, body = Data<KeyView>), CommonErrors))]
pub async fn keys(State(shared): App) -> Answer<Data<KeyView>> {
    let now = Timestamp::now();
    let all = shared.accounts.keys().into_iter();
    Answer(Data {
        data: all.map(|key| view(key, now)).collect(),
    })
}

fn view(key: crate::access::ApiKey, now: Timestamp) -> KeyView {
    KeyView {
        name: key.name,
        key: key.key,
        role: key.role,
        description: key.description,
        enable: key.expires_at.is_none_or(|at| at > now),
        created_at: when(key.created_at),
        expires_at: key.expires_at.and_then(when),
        secret: None,
    }
}

/// Make an API key
#[utoipa::path(post, path = "/api_keys", tag = "access", request_body = NewKey,
    responses((status = 201, body = KeyView), CommonErrors))]
pub async fn add_key(
    State(shared): App,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, Answer<KeyView>), ApiError> {
    let now = Timestamp::now();
    let expires_at = match &new.expires_at {
        None => None,
        Some(text) => Some(time("expires_at", text)?),
    };
    let (key, secret) = shared
        .blocking(move |shared| {
            shared
                .accounts
                .add_key(&new.name, new.role, &new.description, expires_at, now)
        })
        .await??;
    let mut view = view(key, now);
    view.secret = Some(secret);
    Ok((StatusCode::CREATED, Answer(view)))
}

/// Remove an API key
#[utoipa::path(delete, path = "/api_keys/{name}", tag = "access", params(("name" = String, Path)),
    responses((status = 204), CommonErrors))]
pub async fn remove_key(
    State(shared): App,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared
        .blocking(move |shared| shared.accounts.remove_key(&name))
        .await??;
    Ok(StatusCode::NO_CONTENT)
}

/// A page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
}

/// Who changed what, newest first; all of it is in `data_dir/audit.log` too
#[utoipa::path(get, path = "/audit", tag = "access", params(Page), responses((status = 200, body = List<AuditEntry>), CommonErrors))]
pub async fn audit(
    State(shared): App,
    Query(page): Query<Page>,
) -> Result<Answer<List<AuditEntry>>, ApiError> {
    let limit = limit(page.limit)?;
    let before: Option<u64> = decode(page.cursor.as_deref())?;
    let mut rows = shared.audit.list(before, limit + 1);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.id);
    Ok(Answer(List::new(rows, next.as_ref())))
}

/// A time of a request.
pub fn time(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    Timestamp::from_rfc3339(text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "{field}: expected a time such as 2030-01-31T12:00:00Z, got {text:?}"
        ))
    })
}
