//! What can go wrong with a data directory, in words for an operator.

use std::io;
use std::path::PathBuf;

use nightjar_broker::shard::CodecError;

/// An error of the durable backend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {what}: {source}{}", path.display(), help(what, source))]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process (it holds the lock on {})", dir.display(), lock.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// Something else lies in the directory.
    #[error("{} is not empty and not a data directory of Nightjar (found {found}); nothing was changed", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// One of the names found.
        found: String,
    },
    /// The directory belongs to another node, cluster or shape.
    #[error("{} belongs to {what} {found:?}, this node is configured as {expected:?}; nothing was changed", dir.display())]
    Foreign {
        /// The data directory.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the directory.
        found: String,
        /// Configured.
        expected: String,
    },
    /// A newer program wrote the directory.
    #[error("{} is of format {found}; this program reads format {supported}; nothing was changed", dir.display())]
    Format {
        /// The data directory.
        dir: PathBuf,
        /// In the directory.
        found: u32,
        /// The newest that can be read.
        supported: u32,
    },
    /// A file is damaged.
    #[error("{} is damaged at byte {offset}: {what}. Restore a backup, or start with node.recovery = \"accept_loss\" to keep what stands before it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// A file is no whole backup.
    #[error("{} is not a whole backup: at byte {offset}: {what}; nothing was changed", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// A restore would replace what stands in the directory.
    #[error("{} holds the data of node {node:?}; a restore replaces it; nothing was changed", dir.display())]
    Occupied {
        /// The data directory.
        dir: PathBuf,
        /// Whose it is.
        node: String,
    },
    /// The log is whole but ends before what was acknowledged.
    #[error("the log in {} ends at entry {found} of {group}, but entry {marked} was acknowledged (durable mark): {} entries are missing. Restore a backup, or start with node.recovery = \"accept_loss\" to go on without them", dir.display(), marked - found)]
    BelowMark {
        /// The data directory.
        dir: PathBuf,
        /// The group in words.
        group: String,
        /// Last entry found.
        found: u64,
        /// Last entry known to be acknowledged.
        marked: u64,
    },
    /// Stored bytes passed their checksum and still make no sense.
    #[error("entry {index} of {group} {source}")]
    Entry {
        /// The group in words.
        group: String,
        /// Log index.
        index: u64,
        /// Why.
        source: CodecError,
    },
    /// A directory of a node in a cluster, opened as that of a node alone.
    #[error("{} is that of a node in a cluster; start it with cluster.cookie, or give this node an empty data directory", dir.display())]
    Member {
        /// The data directory.
        dir: PathBuf,
    },
    /// This node left its cluster for good.
    #[error("{} is that of a node that left cluster {cluster}: its number is not used again. Remove the directory and let the node join anew", dir.display())]
    Left {
        /// The data directory.
        dir: PathBuf,
        /// Id of the cluster.
        cluster: String,
    },
    /// A node of a cluster that uses a newer protocol than this build speaks.
    #[error("{} is that of a node whose cluster uses version {used} of the protocol between nodes, and this build speaks up to {speaks}: install the build that the other nodes have; nothing was changed", dir.display())]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// What the cluster uses.
        used: u16,
        /// The newest that this build speaks.
        speaks: u16,
    },
    /// Asked of the store of a cluster's node what consensus does there: see [`crate::ClusterNode::backup`].
    #[error("this node is one of a cluster: consensus writes its snapshots")]
    OfCluster,
    /// The log engine refused.
    #[error("the log: {0}")]
    Log(String),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// A sync failed earlier: nothing written since can be trusted.
    #[error("the disk failed to sync the log; nothing is acknowledged until a restart")]
    Failed,
}

/// What an operator does about a disk that does not give back what was written to it.
const BAD_DISK: &str = "; nothing was changed. The disk failed: see the system's log, and start again when it reads, or put an empty data directory on another disk (a node of a cluster gets everything from the others) or a backup";

/// What was tried when a file or directory is read.
const READ: &str = "cannot be read";

/// The number of EIO on every system that this runs on.
const EIO: i32 = 5;

/// What to do about an error of the system.
fn help(what: &str, error: &io::Error) -> &'static str {
    if what == READ && error.raw_os_error() == Some(EIO) {
        BAD_DISK
    } else {
        ""
    }
}

impl Error {
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        what: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, what, source }
    }
}

impl From<raft_engine::Error> for Error {
    fn from(error: raft_engine::Error) -> Self {
        match &error {
            raft_engine::Error::Io(io)
                if io.kind() == io::ErrorKind::StorageFull
                    || io.raw_os_error() == Some(28)
                    || io.to_string().contains("nospace") =>
            {
                Self::Full
            }
            raft_engine::Error::TryAgain(_) => Self::Full,
            // In its own words, which name the file.
            raft_engine::Error::Io(io) => Self::Log(io.to_string()),
            _ => Self::Log(error.to_string()),
        }
    }
}
