//! `ctl cluster`: forming, joining, leaving and looking at a cluster.

use serde_json::json;

use super::Ask;

/// Verbs about the cluster.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The nodes that serve as one broker
    #[command(subcommand)]
    Cluster(Cluster),
}

/// Verbs about the cluster.
#[derive(Debug, clap::Subcommand)]
pub enum Cluster {
    /// Show the nodes, who leads, leases, lag and routes
    Status,
    /// Form a new cluster of this node; others join it
    Init,
    /// Link with a node; whichever of the two is in no cluster joins that of the other
    Join {
        /// Address of the other node's links
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
    /// Send this node's clients to other nodes and take no more; it goes on as a replica
    Drain {
        /// Clients each second
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
        /// Take clients again
        #[arg(long, conflicts_with = "rate")]
        stop: bool,
    },
    /// Even out the clients of all nodes: those with more than the mean send some away
    Rebalance {
        /// Clients that each node sends away each second
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
    },
    /// Compare what all nodes hold, and what they know of each other's routes
    Verify,
    /// Use what the builds of all nodes speak; builds before that cannot come back
    Upgrade,
    /// Commit an entry of the kind that comes with the next version
    #[cfg(feature = "next-protocol")]
    #[command(hide = true)]
    Mark,
    /// Leave the cluster for good
    Leave,
    /// Remove a node that is down and will not come back
    ForceLeave {
        /// Name or number of the node
        #[arg(value_name = "NODE")]
        node: String,
    },
}

impl Command {
    /// What it asks of the node.
    pub fn ask(&self) -> Ask {
        let Self::Cluster(command) = self;
        match command {
            Cluster::Status => Ask::new("cluster status", json!({})),
            Cluster::Init => Ask::new("cluster init", json!({})),
            Cluster::Join { address } => Ask::new("cluster join", json!({ "address": address })),
            Cluster::Drain { stop: true, .. } => Ask::new("cluster drain", json!({ "stop": true })),
            Cluster::Drain { rate, .. } => Ask::new("cluster drain", json!({ "rate": rate })),
            Cluster::Rebalance { rate } => Ask::new("cluster rebalance", json!({ "rate": rate })),
            Cluster::Verify => Ask::new("cluster verify", json!({})),
            Cluster::Upgrade => Ask::new("cluster upgrade", json!({}))
                .destroys("the way back: builds before those that the nodes have now cannot serve in this cluster any more"),
            #[cfg(feature = "next-protocol")]
            Cluster::Mark => Ask::new("cluster mark", json!({})),
            Cluster::Leave => Ask::new("cluster leave", json!({}))
                .destroys("this node's place in its cluster: its number is never used again"),
            Cluster::ForceLeave { node } => {
                Ask::new("cluster force-leave", json!({ "node": node }))
                    .destroys(format!("the place of node {node} in the cluster"))
            }
        }
    }
}
