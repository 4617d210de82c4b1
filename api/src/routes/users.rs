//! Builtin users: who may connect with a password that Nightjar keeps itself.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::list::{List, decode, limit};
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Json, Path, Query};
use crate::host::{NewUser, UserView};

/// By what a user is known.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By the user name of CONNECT.
    #[default]
    Username,
    /// By the client identifier.
    ClientId,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::ClientId => "clientid",
        }
    }
}

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// `username` or `clientid`.
    #[serde(default)]
    #[param(inline, required = false)]
    kind: Kind,
    /// Entries of the page, 1 to 1000.
    limit: Option<usize>,
    /// `meta.cursor` of the page before.
    cursor: Option<String>,
    /// Names that hold this text.
    like: Option<String>,
}

/// A user to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// User name or client identifier.
    user_id: String,
    /// Password.
    #[schema(format = "password")]
    password: String,
    // `username` or `clientid`.
    #[serde(default)]
    #[schema(inline)]
    kind: Kind,
    /// Skips authorization.
    #[serde(default)]
    is_superuser: bool,
}

/// What of a user changes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// Password.
    #[schema(format = "password")]
    password: Option<String>,
    /// Skips authorization.
    is_superuser: Option<bool>,
}

/// Builtin users in the order of their names
#[utoipa::path(get, path = "/users", tag = "users", params(UsersQuery), responses((status = 200, body = List<UserView>), CommonErrors))]
pub async fn list(
    State(shared): App,
    Query(query): Query<UsersQuery>,
) -> Result<Answer<List<UserView>>, ApiError> {
    let limit = limit(query.limit)?;
    let mut after: Option<String> = decode(query.cursor.as_deref())?;
    let kind = query.kind.as_str();
    let mut rows = Vec::new();
    loop {
        let batch = shared.host.users(kind, after.as_deref(), 1000).await?;
        let whole = batch.len() < 1000;
        after = batch.last().map(|user| user.user_id.clone());
        let wanted = batch.into_iter().filter(|user| {
            query
                .like
                .as_deref()
                .is_none_or(|part| user.user_id.contains(part))
        });
        rows.extend(wanted);
        if whole || rows.len() > limit {
            break;
        }
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.user_id.clone());
    Ok(Answer(List::new(rows, next.as_ref())))
}

/// Make a builtin user
#[utoipa::path(post, path = "/users", tag = "users", request_body = AddUser,
    responses((status = 201, body = UserView), CommonErrors))]
pub async fn add(
    State(shared): App,
    Json(new): Json<AddUser>,
) -> Result<(StatusCode, Answer<UserView>), ApiError> {
    let view = UserView {
        user_id: new.user_id.clone(),
        kind: new.kind.as_str().to_owned(),
        is_superuser: new.is_superuser,
    };
    let user = NewUser {
        user_id: new.user_id,
        kind: new.kind.as_str().to_owned(),
        password: Some(new.password),
        is_superuser: Some(new.is_superuser),
    };
    shared.host.put_user(user, true).await?;
    Ok((StatusCode::CREATED, Answer(view)))
}

/// Change a builtin user
#[utoipa::path(put, path = "/users/{kind}/{user_id}", tag = "users",
    params(("kind" = inline(Kind), Path), ("user_id" = String, Path)),
    request_body = ChangeUser, responses((status = 204), CommonErrors))]
pub async fn change(
    State(shared): App,
    Path((kind, user_id)): Path<(Kind, String)>,
    Json(change): Json<ChangeUser>,
) -> Result<StatusCode, ApiError> {
    let user = NewUser {
        user_id,
        kind: kind.as_str().to_owned(),
        password: change.password,
        is_superuser: change.is_superuser,
    };
    shared.host.put_user(user, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a builtin user
#[utoipa::path(delete, path = "/users/{kind}/{user_id}", tag = "users",
    params(("kind" = inline(Kind), Path), ("user_id" = String, Path)),
    responses((status = 204), CommonErrors))]
pub async fn remove(
    State(shared): App,
    Path((kind, user_id)): Path<(Kind, String)>,
) -> Result<StatusCode, ApiError> {
    shared.host.remove_user(kind.as_str(), &user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
