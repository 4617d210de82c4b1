//! `clients`, `subs`, `topics`, `retained`, `listeners`, `log`, `trace`, `explain`, `metrics`, `alarms`, `admin`: what
//! happens on this node, and why.

mod lists;
mod steer;
mod trace;

use std::sync::Arc;

use nightjar_api::{ApiError, HostError};

use crate::ctl::{CtlError, ErrorCode, Registry};
use crate::start::Node;

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    lists::add(registry, node);
    steer::add(registry, node);
    trace::add(registry, node);
}

/// What the API's errors are to `ctl`.
fn refused(error: &ApiError) -> CtlError {
    let code = match error.status.as_u16() {
        400 => ErrorCode::Usage,
        404 => ErrorCode::NotFound,
        403 | 409 => ErrorCode::Refused,
        _ => ErrorCode::Failed,
    };
    CtlError::new(code, error.message.clone())
}

/// What the node's errors are to `ctl`.
fn failed(error: HostError) -> CtlError {
    refused(&ApiError::from(error))
}

/// The part that the API and `ctl` share.
fn api(node: &Node) -> Result<&Arc<nightjar_api::Shared>, CtlError> {
    node.api
        .get()
        .ok_or_else(|| CtlError::new(ErrorCode::Failed, "the node is still starting"))
}

/// Does something that walks over all clients, off the workers.
async fn walk<T: Send + 'static>(
    node: &Arc<Node>,
    work: impl FnOnce(&nightjar_api::Shared) -> T + Send + 'static,
) -> Result<T, CtlError> {
    let shared = api(node)?;
    shared.walk(work).await.map_err(|error| refused(&error))
}
