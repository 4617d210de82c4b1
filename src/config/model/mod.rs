//! The typed tree of the configuration, filled by serde from the merged layers.
//!
//! The structs hold no defaults and no checks of their own: [`super::schema`] gives every key its default before serde
//! sees the tree, and has refused what does not fit. A key that may be unset is an `Option`.

mod auth;
mod cluster;
mod listeners;
mod mqtt;

pub use auth::*;
pub use cluster::*;
pub use listeners::*;
pub use mqtt::*;

use serde::{Deserialize, Serialize};

use super::units::{BindAddr, ByteRate, ByteSize, Duration, OffOr, Percent, Rate, Secret};

/// The whole configuration of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// This node.
    pub node: Node,
    /// Where clients connect.
    pub listeners: Listeners,
    /// Who may connect.
    pub auth: Auth,
    /// What clients may do.
    pub acl: Acl,
    /// MQTT defaults and limits.
    pub mqtt: Mqtt,
    /// Retained messages.
    pub retained: Retained,
    /// Limits on memory, rates and reconnects.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
    /// Metrics.
    pub metrics: Metrics,
    /// Links to other nodes.
    pub cluster: Cluster,
    /// Dashboard, HTTP API, metrics.
    pub api: Api,
}

/// What an acknowledgement of a QoS 1 or 2 message for a durable session promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk before it is acknowledged.
    Sync,
    /// Written at once, synced every 100 ms.
    Async,
    /// In memory only.
    Memory,
}

/// `[node]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique name in the cluster.
    pub name: String,
    /// Directory of all that is kept.
    pub data_dir: std::path::PathBuf,
    /// Worker threads; 0: one for each core.
    pub workers: usize,
    /// Time between two publications of `$SYS/#`.
    pub sys_interval: OffOr<Duration>,
    /// Delay of wills after a shutdown of this node.
    pub will_restart_grace: Duration,
    /// What a start does with a damaged log.
    pub recovery: Recovery,
}

/// What a start does with a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// It refuses.
    Strict,
    /// It goes on with what stands before the damage.
    AcceptLoss,
}

/// `[retained]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retained {
    /// Messages kept.
    pub max_messages: OffOr<u64>,
    /// Largest payload kept.
    pub max_payload: ByteSize,
    /// Lifetime of messages without an expiry.
    pub expiry: OffOr<Duration>,
}

/// `[limits]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Share of memory above which connections are refused.
    pub memory_high: Percent,
    /// Share of memory above which publishers are paused.
    pub memory_critical: Percent,
    /// Largest CONNECT, and memory of a connection before it.
    pub connect_packet_size: ByteSize,
    /// Memory of all connections before their CONNECT.
    pub connect_memory: ByteSize,
    /// Memory for messages that wait for durable sessions.
    pub queue_memory: ByteSize,
    /// Of each client id.
    pub client: Buckets,
    /// Of each user name.
    pub user: Buckets,
    /// Of each address.
    pub address: Buckets,
    /// Bans for reconnecting too often.
    pub flapping: Flapping,
}

/// Token buckets of one client, user or address.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buckets {
    /// Messages published.
    pub messages: OffOr<Rate>,
    /// Bytes received.
    pub bytes: OffOr<ByteRate>,
    /// Connections opened.
    pub connects: OffOr<Rate>,
}

/// `[limits.flapping]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flapping {
    /// Switch.
    pub enable: bool,
    /// Connections that make a ban.
    pub connects: u32,
    /// In this time.
    pub window: Duration,
    /// Length of the ban.
    pub ban: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level, or levels by module as tracing-subscriber's `EnvFilter` reads them.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
    /// File to write to; standard error if unset.
    pub file: Option<std::path::PathBuf>,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Also the `emqx_*` names.
    pub emqx_names: bool,
}

/// `[api]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Switch.
    pub enable: bool,
    /// Address.
    pub bind: BindAddr,
    /// Password of `admin`.
    pub admin_password: Option<Secret>,
    /// `/metrics` needs a token.
    pub metrics_auth: bool,
}
