//! The durable backend that `durability` asks for.

use std::sync::Arc;

use nightjar_broker::meta::{MemoryMeta, MetaStore};
use nightjar_broker::{Broker, DurableStore, MemoryStore};
use nightjar_cluster::{self as cluster, ClusterNode, ClusterSettings, NodeStore, StoreConfig};

use super::discovery;
use crate::config::model::{ClusterTls, Config, Durability, Recovery};

/// The store of a node.
pub enum Store {
    /// `durability = "memory"`.
    Memory(Arc<MemoryStore>),
    /// `durability = "sync"` and `"async"`: a log in `data_dir/store`.
    Log(Arc<NodeStore>),
    /// The same as one of a cluster: `cluster.cookie` is set.
    Cluster(Arc<NodeStore>, Arc<ClusterNode>),
}

impl Store {
    /// Opens it; with a log, all that stood in it is there again.
    ///
    /// # Errors
    /// A directory of another node, of a newer format, in use or damaged, in words.
    pub fn open(config: &Config, witness: bool) -> Result<Self, String> {
        let durability = match config.durability {
            Durability::Memory => {
                return Ok(Self::Memory(Arc::new(MemoryStore::new(
                    config.cluster.shards,
                ))));
            }
            Durability::Sync => cluster::Durability::Sync,
            Durability::Async => cluster::Durability::Async,
        };
        let dir = config.node.data_dir.join("store");
        let mut settings = StoreConfig::new(dir, config.node.name.as_str());
        settings.durability = durability;
        settings.recovery = match config.node.recovery {
            Recovery::Strict => cluster::Recovery::Strict,
            Recovery::AcceptLoss => cluster::Recovery::AcceptLoss,
        };
        settings.queue_memory = config.limits.queue_memory.as_usize();
        settings.session_groups = config.cluster.shards;
        settings.will_restart_grace =
            u32::try_from(config.node.will_restart_grace.get().as_secs()).unwrap_or(u32::MAX);
        if config.cluster.opens_links() {
            return ClusterNode::open(&settings, of_cluster(config, witness))
                .map(|(store, node)| Self::Cluster(store, node))
                .map_err(|error| error.to_string());
        }
        NodeStore::open(&settings)
            .map(|store| Self::Log(Arc::new(store)))
            .map_err(|error| error.to_string())
    }

    /// The store as the broker sees it.
    pub fn shared(&self) -> Arc<dyn DurableStore> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Log(store) | Self::Cluster(store, _) => store.clone(),
        }
    }

    /// Its named values: users, rules, bans.
    pub fn meta(&self) -> Arc<dyn MetaStore> {
        match self {
            Self::Memory(_) => Arc::new(MemoryMeta::default()),
            Self::Log(store) | Self::Cluster(store, _) => store.clone(),
        }
    }

    /// Why nothing can be acknowledged any more, in a few words; a node of a cluster says so as its problem.
    pub fn failure(&self) -> Option<&'static str> {
        match self {
            Self::Log(store) if store.has_failed() => {
                Some("without a log it can write: see its log, mend the disk and restart it")
            }
            _ => None,
        }
    }

    /// The node's place in its cluster.
    pub fn cluster(&self) -> Option<Arc<ClusterNode>> {
        match self {
            Self::Cluster(_, node) => Some(node.clone()),
            _ => None,
        }
    }

    /// Gives it the broker; sessions of an earlier run are routable when this returns, in a cluster when the node
    /// serves.
    ///
    /// # Errors
    /// `cluster.bind` cannot be bound, or the log of the cluster cannot be opened.
    pub async fn start(&self, broker: &Arc<Broker>) -> Result<(), String> {
        match self {
            Self::Memory(store) => store.set_sink(broker.clone()),
            Self::Log(store) => store.start(broker.clone()),
            Self::Cluster(_, node) => {
                broker.set_mesh(node.clone());
                let started = node.start(broker.clone()).await;
                let address = started.map_err(|error| error.to_string())?;
                tracing::info!(%address, "links between nodes are open");
            }
        }
        Ok(())
    }

    /// Writes what is still to be written and lets go of the directory.
    pub fn close(&self) {
        if let Self::Log(store) | Self::Cluster(store, _) = self {
            store.close();
        }
    }
}

/// The settings of `[cluster]` as the cluster crate takes them.
fn of_cluster(config: &Config, witness: bool) -> ClusterSettings {
    let cluster = &config.cluster;
    ClusterSettings {
        name: cluster.name.clone(),
        node: config.node.name.to_string(),
        bind: cluster.bind.get(),
        advertise: cluster.advertise.clone(),
        cookie: cluster
            .cookie
            .as_ref()
            .map(|cookie| cookie.expose().to_owned())
            .unwrap_or_default(),
        tls: tls(&cluster.tls),
        seeds: cluster.seeds.clone(),
        discovery: discovery::of(config),
        towards: discovery::towards(config),
        reference: cluster.server_reference.clone(),
        witness,
        expect: cluster.expect,
        replicas: usize::from(cluster.replicas),
        autoclean: cluster.autoclean.get().map(|time| time.get()),
        log_limit: 256 << 20,
    }
}

/// `[cluster.tls]`; all three files are there or none.
fn tls(tls: &ClusterTls) -> Option<cluster::TlsFiles> {
    Some(cluster::TlsFiles {
        cert_file: tls.cert_file.clone()?,
        key_file: tls.key_file.clone()?,
        ca_file: tls.ca_file.clone()?,
    })
}
