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
            Cluster::Leave => Ask::new("cluster leave", json!({}))
                .destroys("this node's place in its cluster: its number is never used again"),
            Cluster::ForceLeave { node } => {
                Ask::new("cluster force-leave", json!({ "node": node }))
                    .destroys(format!("the place of node {node} in the cluster"))
            }
        }
    }
}
