//! Consensus: one openraft group whose entries carry what the nodes submit to all groups of shards.
//!
//! One group, not one per shard: a node's whole round (everything its connections submitted to all groups meanwhile)
//! is one entry, atomic over shards as on one node, with one sync and one majority for all of it.

mod log;
mod machine;
mod network;
mod snapshot;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use log::{HEAD, LogStore};
pub(crate) use machine::Machine;
pub(crate) use network::{Incoming, Network, Rpc, answer};
pub(crate) use snapshot::{State, load, size};

/// A node as consensus knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its name.
    pub name: String,
    /// Where its links are, host and port.
    pub address: String,
}

/// What one node submits at once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// Number of the node; 0: the leader for the cluster itself.
    pub origin: u64,
    /// Its incarnation: what an earlier one left on the way counts no more.
    pub incarnation: u64,
    /// Rises by one with each of this incarnation: repeats are passed over, and so is what comes before its turn.
    pub sequence: u64,
    /// Entries by group, see [`crate::member::parts`].
    #[serde(with = "octets")]
    pub body: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{} of {} B",
            self.origin,
            self.incarnation,
            self.sequence,
            self.body.len()
        )
    }
}

/// [`Bytes`] in serde, as one piece.
mod octets {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&bytes[..], to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(from)?;
        Ok(Bytes::from(bytes))
    }
}

openraft::declare_raft_types!(
    /// The types of the group.
    pub(crate) Types:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = Peer,
);

pub(crate) type Raft = openraft::Raft<Types, Machine>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, Bytes>;

/// How consensus runs: a follower that hears nothing for 0.7 to 1.4 s asks for votes, first whether it would get them.
pub(crate) fn config(cluster: &str) -> openraft::Config {
    openraft::Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: 150,
        election_timeout_min: 700,
        election_timeout_max: 1400,
        install_snapshot_timeout: 60_000,
        // As many as fit a piece of the log: a follower whose disk takes a second to sync gets the next ones after that.
        max_payload_entries: 100_000,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 2000,
        replication_lag_threshold: 20_000,
        enable_pre_vote: Some(true),
        // Followers have entries before the leader's own disk has them. A leader that died before its did, and led on in
        // the same term, would give their places to other entries.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
}
