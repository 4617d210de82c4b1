//! `status` and `reload`: the node as a whole.

use std::sync::Arc;

use serde_json::json;

use crate::ctl::Registry;
use crate::start::Node;

/// Adds `status` and `reload`.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn("status", "how the node is", move |_| {
        let status = it.status();
        async { Ok(status) }
    });
    let it = node.clone();
    registry.add_fn(
        "reload",
        "read configuration, rules and certificates again",
        move |_| {
            let it = it.clone();
            async move {
                let reloaded = tokio::task::spawn_blocking(move || it.reload()).await;
                Ok(reloaded.unwrap_or_else(|error| json!({ "errors": [error.to_string()] })))
            }
        },
    );
}
