//! The durable backend that `durability` asks for.

use std::sync::Arc;

use nightjar_broker::meta::{MemoryMeta, MetaStore};
use nightjar_broker::{Broker, DurableStore, MemoryStore};
use nightjar_cluster::{self as cluster, NodeStore, StoreConfig};

use crate::config::model::{Config, Durability, Recovery};

/// The store of a node.
pub enum Store {
    /// `durability = "memory"`.
    Memory(Arc<MemoryStore>),
    /// `durability = "sync"` and `"async"`: a log in `data_dir/store`.
    Log(Arc<NodeStore>),
}

impl Store {
    /// Opens it; with a log, all that stood in it is there again.
    ///
    /// # Errors
    /// A directory of another node, of a newer format, in use or damaged, in words.
    pub fn open(config: &Config) -> Result<Self, String> {
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
        NodeStore::open(&settings)
            .map(|store| Self::Log(Arc::new(store)))
            .map_err(|error| error.to_string())
    }

    /// The store as the broker sees it.
    pub fn shared(&self) -> Arc<dyn DurableStore> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Log(store) => store.clone(),
        }
    }

    /// Its named values: users, rules, bans.
    pub fn meta(&self) -> Arc<dyn MetaStore> {
        match self {
            Self::Memory(_) => Arc::new(MemoryMeta::default()),
            Self::Log(store) => store.clone(),
        }
    }

    /// Gives it the broker; sessions of an earlier run are routable when this returns.
    pub fn start(&self, broker: &Arc<Broker>) {
        match self {
            Self::Memory(store) => store.set_sink(broker.clone()),
            Self::Log(store) => store.start(broker.clone()),
        }
    }

    /// Writes what is still to be written and lets go of the directory.
    pub fn close(&self) {
        if let Self::Log(store) = self {
            store.close();
        }
    }
}
