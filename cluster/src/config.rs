//! The settings of a store, and the disk it stands on.

use std::path::PathBuf;
use std::sync::Arc;

use raft_engine::env::{DefaultFileSystem, FileSystem};

use crate::files::{DiskFiles, Files};

/// When an acknowledgement may be sent. (`durability = "memory"` is [`nightjar_broker::MemoryStore`].)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the disk has it: nothing acknowledged is lost by kill -9 or power loss.
    #[default]
    Sync,
    /// After the system has it: kill -9 loses nothing, power loss up to the last 100 ms.
    Async,
}

/// What to do with a damaged log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// Refuse to start, naming file and offset.
    #[default]
    Strict,
    /// Keep what stands before the damage, put the rest aside, say what is lost.
    AcceptLoss,
}

/// Settings of a [`crate::NodeStore`].
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Data directory.
    pub dir: PathBuf,
    /// Name of this node; a directory of another one is refused.
    pub node: String,
    /// Id of the cluster, if it is configured: a directory of another one is refused.
    pub cluster: Option<String>,
    /// When an acknowledgement may be sent.
    pub durability: Durability,
    /// What to do with a damaged log.
    pub recovery: Recovery,
    /// Bytes of log after which snapshots are written and old files go.
    pub log_limit: u64,
    /// Size of a log file in bytes.
    pub file_size: u64,
    /// How long a will of a connection that the node's death cut waits for the client, in seconds.
    pub will_restart_grace: u32,
    /// Bytes of queued messages that memory may hold; others wait on the disk.
    pub queue_memory: usize,
    /// Groups of sessions in a new directory.
    pub session_groups: u16,
    /// Groups of retained messages in a new directory.
    pub retained_groups: u16,
}

impl StoreConfig {
    /// The defaults for a directory and a node name.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, node: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            node: node.into(),
            cluster: None,
            durability: Durability::default(),
            recovery: Recovery::default(),
            log_limit: 256 << 20,
            file_size: 32 << 20,
            will_restart_grace: 10,
            queue_memory: 256 << 20,
            session_groups: 16,
            retained_groups: 4,
        }
    }
}

/// What the store writes to: the real disk, or in tests one that loses what was not synced.
pub struct Disk<F: FileSystem> {
    /// For the log.
    pub log: Arc<F>,
    /// For the files beside it.
    pub files: Arc<dyn Files>,
}

impl Default for Disk<DefaultFileSystem> {
    fn default() -> Self {
        Self {
            log: Arc::new(DefaultFileSystem),
            files: Arc::new(DiskFiles),
        }
    }
}

impl<F: FileSystem> std::fmt::Debug for Disk<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}
