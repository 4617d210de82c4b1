//! `cluster ...`: this node's place in a cluster.

use std::sync::Arc;

use nightjar_cluster::ClusterNode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::read;
use crate::ctl::{CtlError, ErrorCode, Registry};
use crate::start::Node;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceLeave {
    node: String,
}

fn cluster(node: &Node) -> Result<Arc<ClusterNode>, CtlError> {
    node.cluster.clone().ok_or_else(|| {
        CtlError::new(
            ErrorCode::Refused,
            "this node is alone: cluster.cookie is not set".to_owned(),
        )
    })
}

fn refused(what: String) -> CtlError {
    CtlError::new(ErrorCode::Refused, what)
}

/// Adds the verbs.
pub fn add(registry: &mut Registry, node: &Arc<Node>) {
    let it = node.clone();
    registry.add_fn(
        "cluster status",
        "the nodes of the cluster, who leads, leases, lag and routes",
        move |_| {
            let status = cluster(&it).and_then(|cluster| {
                serde_json::to_value(cluster.status())
                    .map_err(|error| CtlError::new(ErrorCode::Failed, error.to_string()))
            });
            async { status }
        },
    );
    let it = node.clone();
    registry.add_fn(
        "cluster init",
        "form a new cluster of this node",
        move |_| {
            let formed = cluster(&it).and_then(|it| it.form_now().map_err(refused));
            async { formed.map(|()| json!({ "forming": true })) }
        },
    );
    let it = node.clone();
    registry.add_fn("cluster join", "link with another node", move |args| {
        let joined = read::<Join>(args).and_then(|args| {
            let cluster = cluster(&it)?;
            cluster.join(&args.address).map_err(refused)?;
            Ok(json!({ "linking": args.address }))
        });
        async { joined }
    });
    let it = node.clone();
    registry.add_fn("cluster leave", "leave the cluster for good", move |_| {
        let found = cluster(&it);
        async move {
            found?.leave().await.map_err(refused)?;
            Ok(json!({ "left": true }))
        }
    });
    let it = node.clone();
    registry.add_fn(
        "cluster force-leave",
        "remove a node that is down for good",
        move |args| {
            let found = cluster(&it);
            async move {
                let args: ForceLeave = read::<ForceLeave>(args)?;
                found?.force_leave_node(&args.node).await.map_err(refused)?;
                Ok::<Value, CtlError>(json!({ "removed": args.node }))
            }
        },
    );
}
