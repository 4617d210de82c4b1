//! Listeners.

use axum::Json as Answer;
use axum::extract::State;
use utoipa::ToSchema;

use super::App;
use super::list::Data;
use crate::error::{ApiError, CommonErrors};
use crate::extract::Path;
use crate::host::ListenerView;
use crate::shared::Shared;

/// What to do with a listener.
#[derive(Debug, Clone, Copy, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Accept connections again.
    Start,
    /// Accept none; those there are live on.
    Stop,
    /// Both.
    Restart,
}

impl Shared {
    fn listener(&self, id: &str) -> Result<ListenerView, ApiError> {
        self.host
            .listeners()
            .into_iter()
            .find(|listener| listener.id == id)
            .ok_or_else(|| ApiError::not_found(format!("there is no listener {id:?}")))
    }
}

/// Listeners
#[utoipa::path(get, path = "/listeners", tag = "listeners", responses((status = 200, body = Data<ListenerView>), CommonErrors))]
pub async fn list(State(shared): App) -> Result<Answer<Data<ListenerView>>, ApiError> {
    let data = shared.walk(|shared| shared.host.listeners()).await?;
    Ok(Answer(Data { data }))
}

/// One listener
#[utoipa::path(get, path = "/listeners/{id}", tag = "listeners", params(("id" = String, Path, example = "tcp:default")),
    responses((status = 200, body = ListenerView), CommonErrors))]
pub async fn one(
    State(shared): App,
    Path(id): Path<String>,
) -> Result<Answer<ListenerView>, ApiError> {
    shared
        .walk(move |shared| shared.listener(&id))
        .await?
        .map(Answer)
}

/// Start, stop or restart a listener until the next start of the node
#[utoipa::path(post, path = "/listeners/{id}/{action}", tag = "listeners",
    params(("id" = String, Path, example = "tcp:default"), ("action" = inline(Act), Path)),
    responses((status = 200, body = ListenerView), CommonErrors))]
pub async fn act(
    State(shared): App,
    Path((id, act)): Path<(String, Act)>,
) -> Result<Answer<ListenerView>, ApiError> {
    if matches!(act, Act::Stop | Act::Restart) {
        shared.host.stop_listener(&id).await?;
    }
    if matches!(act, Act::Start | Act::Restart) {
        shared.host.start_listener(&id).await?;
    }
    shared
        .walk(move |shared| shared.listener(&id))
        .await?
        .map(Answer)
}
