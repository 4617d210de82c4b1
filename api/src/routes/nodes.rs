//! Nodes and the cluster.

use axum::Json as Answer;
use axum::extract::State;
use nightjar_broker::{MemoryLevel, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::list::Data;
use crate::error::{ApiError, CommonErrors};
use crate::extract::Path;
use crate::host::NodeSummary;
use crate::shared::{Shared, when};

/// One node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// `running` or `stopped`.
    pub node_status: String,
    /// Version of the program.
    pub version: String,
    /// Milliseconds since the start.
    pub uptime: u64,
    /// When it was started.
    pub started_at: Option<String>,
    /// `core`.
    pub role: String,
    /// Connected clients.
    pub connections: u64,
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Distinct topic filters.
    pub topics: u64,
    /// Retained messages.
    pub retained: u64,
    /// Resident bytes.
    pub memory_used: u64,
    /// Bytes it may use.
    pub memory_total: u64,
    /// `normal`, `high`, `critical`.
    pub memory_level: String,
    /// Percent of one core.
    pub process_cpu: f64,
    /// Load of the machine in the last minute.
    pub load1: f64,
    /// In the last five minutes.
    pub load5: f64,
    /// In the last fifteen.
    pub load15: f64,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors.
    pub max_fds: Option<u64>,
    /// Operating system.
    pub os: String,
    /// Processor.
    pub arch: String,
}

impl Shared {
    /// This node.
    pub(crate) fn node_view(&self) -> NodeView {
        let stats = self.stats();
        let figures = self.process.figures();
        let round = |value: f64| (value * 100.0).round() / 100.0;
        NodeView {
            node: self.broker.node().to_string(),
            node_status: if self.host.is_stopping() {
                "stopped"
            } else {
                "running"
            }
            .to_owned(),
            version: self.host.version().to_owned(),
            uptime: Timestamp::now().since(self.broker.started()),
            started_at: when(self.broker.started()),
            role: "core".to_owned(),
            connections: stats.connections,
            sessions: stats.sessions,
            subscriptions: stats.subscriptions,
            topics: stats.topics,
            retained: stats.retained,
            memory_used: figures.resident,
            memory_total: figures.total,
            memory_level: memory_level(self.broker.memory()).to_owned(),
            process_cpu: round(figures.cpu_percent),
            load1: figures.load[0],
            load5: figures.load[1],
            load15: figures.load[2],
            open_fds: figures.open_fds,
            max_fds: figures.max_fds,
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }

    /// What other nodes are told of this one, as JSON: an item of `GET /nodes`.
    #[must_use]
    pub fn node_told(&self) -> Vec<u8> {
        serde_json::to_vec(&self.node_view()).unwrap_or_default()
    }

    /// This node, and what the others say of themselves; of one that does not answer what the cluster knows.
    pub(crate) async fn all_nodes(&self) -> Vec<Value> {
        let mut others = self.host.others().await;
        let own = self.broker.node().clone();
        let mut row = |summary: NodeSummary| {
            if *summary.node == *own {
                return serde_json::to_value(self.node_view()).unwrap_or_default();
            }
            let told = others.iter().position(|it| it["node"] == *summary.node);
            let mut node = told.map_or_else(Value::default, |at| others.swap_remove(at));
            node["node"] = summary.node.into();
            // A node that stops says so itself before the cluster does.
            if node["node_status"] != "stopped" {
                node["node_status"] = summary.status.into();
            }
            node["address"] = summary.address.into();
            node
        };
        self.host.nodes().into_iter().map(&mut row).collect()
    }
}

/// The level's name.
pub const fn memory_level(level: MemoryLevel) -> &'static str {
    match level {
        MemoryLevel::Normal => "normal",
        MemoryLevel::High => "high",
        MemoryLevel::Critical => "critical",
    }
}

/// The cluster.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cluster {
    /// This node.
    #[serde(rename = "self")]
    own: String,
    /// All nodes, this one first.
    nodes: Vec<NodeSummary>,
    /// What else is known.
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

/// Nodes; of one that does not answer name and state
#[utoipa::path(get, path = "/nodes", tag = "node", responses((status = 200, body = Data<Value>), CommonErrors))]
pub async fn nodes(State(shared): App) -> Answer<Data<Value>> {
    Answer(Data {
        data: shared.all_nodes().await,
    })
}

/// One node
#[utoipa::path(get, path = "/nodes/{name}", tag = "node", params(("name" = String, Path)),
    responses((status = 200, body = Value), CommonErrors))]
pub async fn node(State(shared): App, Path(name): Path<String>) -> Result<Answer<Value>, ApiError> {
    shared
        .all_nodes()
        .await
        .into_iter()
        .find(|node| node["node"] == name)
        .map(Answer)
        .ok_or_else(|| ApiError::not_found(format!("there is no node {name}")))
}

/// The cluster
#[utoipa::path(get, path = "/cluster", tag = "node", responses((status = 200, body = Cluster), CommonErrors))]
pub async fn cluster(State(shared): App) -> Answer<Cluster> {
    Answer(Cluster {
        own: shared.broker.node().to_string(),
        nodes: shared.host.nodes(),
        more: shared.host.cluster(),
    })
}
