//! `cluster ...`: this node's place in a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_cluster::ClusterNode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::read;
use crate::ctl::{CtlError, CtlVerb, ErrorCode, Registry, Rows, VerbFuture};
use crate::start::Node;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    #[serde(default = "rate")]
    rate: u32,
    #[serde(default)]
    stop: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rebalance {
    #[serde(default = "rate")]
    rate: u32,
}

/// Clients that move each second unless it is said.
const fn rate() -> u32 {
    100
}

/// So often whoever drains a node hears how many clients are left.
const PROGRESS: Duration = Duration::from_secs(2);

struct DrainVerb(Arc<Node>);

impl CtlVerb for DrainVerb {
    fn run<'a>(&'a self, args: Value, rows: &'a mut Rows<'_>) -> VerbFuture<'a> {
        Box::pin(async move {
            let args: Drain = read(args)?;
            let cluster = cluster(&self.0)?;
            if args.stop {
                cluster.end_drain();
                return Ok(json!({ "draining": false }));
            }
            cluster.drain(args.rate).await.map_err(refused)?;
            let mut told = Instant::now();
            while self.0.broker.connected() > 0 && cluster.is_closed() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if told.elapsed() >= PROGRESS {
                    told = Instant::now();
                    rows.row(&json!({ "clients": self.0.broker.connected() }))
                        .await?;
                    rows.flush().await?;
                }
            }
            Ok(json!({ "draining": cluster.is_closed(), "clients": self.0.broker.connected() }))
        })
    }
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
    registry.add(
        "cluster drain",
        "send this node's clients elsewhere and take no more",
        DrainVerb(node.clone()),
    );
    let it = node.clone();
    registry.add_fn(
        "cluster rebalance",
        "even out the clients of all nodes",
        move |args| {
            let found = cluster(&it);
            async move {
                let args: Rebalance = read(args)?;
                let moves = found?.rebalance(args.rate).await.map_err(refused)?;
                Ok::<Value, CtlError>(json!({ "nodes": moves }))
            }
        },
    );
    let it = node.clone();
    registry.add_fn(
        "cluster verify",
        "compare what all nodes hold and know",
        move |_| {
            let found = cluster(&it);
            async move {
                let verdict = found?.verify().await.map_err(refused)?;
                if verdict.differences.is_empty() {
                    return Ok(json!(verdict));
                }
                let help = "restart the node that differs from the others with an empty data directory; see docs/cluster.md";
                let what = verdict.differences.join("; ");
                Err(CtlError::new(ErrorCode::Failed, what).help(help))
            }
        },
    );
    let it = node.clone();
    registry.add_fn(
        "cluster upgrade",
        "use the newest version of the protocol that all nodes speak",
        move |_| {
            let found = cluster(&it);
            async move {
                let version = found?.upgrade().await.map_err(refused)?;
                Ok::<Value, CtlError>(json!({ "protocol": version }))
            }
        },
    );
    #[cfg(feature = "next-protocol")]
    {
        let it = node.clone();
        registry.add_fn(
            "cluster mark",
            "commit an entry of the kind that comes with the next version",
            move |_| {
                let found = cluster(&it);
                async move {
                    found?.mark().await.map_err(refused)?;
                    Ok::<Value, CtlError>(json!({ "marked": true }))
                }
            },
        );
    }
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
